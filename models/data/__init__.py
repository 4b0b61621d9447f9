"""Files of samples, read row by row: tables, arrays, lines, folders. `forms` opens any of them."""

"""Tables of features by key: fed by the operator, asked by devices and by cloud pipelines."""

"""The page an operator looks at: server-rendered, live, and asking nobody outside."""

"""The agent's own socket, `agent.sock`: tasks, status, revisions."""

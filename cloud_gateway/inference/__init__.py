"""The cloud model's answers, over HTTP and to escalations."""

"""The cloud half of Longstop: it serves escalations, keeps the fleet's records, ships models."""

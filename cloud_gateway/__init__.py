"""The half of Longstop that runs in the cloud: serves escalations, keeps the fleet's records, ships models."""

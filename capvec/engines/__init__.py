"""Model servers that steer: the protocol, its client and process, and a folder for each engine that speaks it."""

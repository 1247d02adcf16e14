"""The service: what people ask of a ranker over HTTP, and what they say of its answers."""

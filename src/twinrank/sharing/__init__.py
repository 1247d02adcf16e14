"""Rankers that leave: packaged, exported, pushed to a hub."""

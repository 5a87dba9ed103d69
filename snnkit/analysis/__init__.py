"""Looks at a model: functions of (model, batch) that return plain tables."""

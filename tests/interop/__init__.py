"""Exchange with other toolkits: their answers, from our code."""

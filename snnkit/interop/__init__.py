"""Exchange with other toolkits, one file for each partner, imported where it is used."""

"""What every request stands on. It knows no table and no feature."""

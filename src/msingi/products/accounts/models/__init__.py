"""What is stored, a file for each noun."""

"""The adapter for letters: a PDF in a folder for each letter that is due, run by cron."""

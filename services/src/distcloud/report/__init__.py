"""The site report: one summary, shown as a page and as tables."""

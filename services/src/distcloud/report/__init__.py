"""What a person sees of a site: one summary, shown as a page and as tables."""

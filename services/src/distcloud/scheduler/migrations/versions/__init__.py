"""One file per version, in numerical order."""

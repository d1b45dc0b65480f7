"""The privileged minter of worker tokens; standard library only."""

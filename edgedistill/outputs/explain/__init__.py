"""Why a finished build ended as it did, read off `build.json` and `profiles/`: nothing is measured or predicted anew."""

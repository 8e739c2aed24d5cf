"""From files to images, labels, splits and replayable views."""

"""Video files: read, processed frame by frame, written with everything else that they hold."""

"""fastdl."""

//! Starts a program by argv in its own process group and never leaves one behind.

//! Walks that have failed once, the shortest found.

//! The last of all tests, by its name.

use crate::again;

#[test]
fn every_test_passes_on_postgresql() {
    again::ended();
}

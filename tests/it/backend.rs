//! A database of its own for each test.

use care_invitation::store::Store;
use tempfile::TempDir;

/// An empty database and the store on it; deleted when dropped.
pub struct Backend {
    pub folder: TempDir,
    pub store: Store,
}

impl Backend {
    pub async fn sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a folder for the test's database");
        let store = Store::open(&url(&folder)).await.expect("an empty database");
        Self { folder, store }
    }

    pub fn url(&self) -> String {
        url(&self.folder)
    }
}

fn url(folder: &TempDir) -> String {
    format!("sqlite://{}", folder.path().join("test.db").display())
}

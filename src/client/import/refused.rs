//! The file of refused lines: the lines as they were, and why. What was mended in it can be imported.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use csv::StringRecord;
use serde_json::{Map, Value, json};

use super::super::failure::Failure;
use super::line::{Line, REFUSED, Text};
use crate::config::client::Import;

/// Permissions of the file: it holds what the lines hold, identity numbers too.
const OWNER_ALONE: u32 = 0o600;

/// The file, which is created with the first line, or written over when an import before left one.
pub struct RefusedFile {
    path: PathBuf,
    headings: Option<StringRecord>,
    file: Option<File>,
}

impl RefusedFile {
    /// Names the file.
    ///
    /// # Errors
    ///
    /// It is the file that is imported, by whatever name.
    pub fn new(asked: &Import, headings: Option<StringRecord>) -> Result<Self, Failure> {
        let path = asked.refused_file();
        match is_same_file(&path, &asked.file) {
            true => Err(Failure::Input(
                "refused lines cannot go into the file that is imported: name another with --refused"
                    .to_owned(),
            )),
            false => Ok(Self {
                path,
                headings,
                file: None,
            }),
        }
    }

    /// Returns the path of the file, if a line was refused.
    pub fn path(&self) -> Option<PathBuf> {
        self.file.is_some().then(|| self.path.clone())
    }

    /// Adds a line.
    pub fn add(&mut self, line: &Line, reason: &str) -> io::Result<()> {
        let text = match &line.text {
            Text::Csv(record) => self.csv(line.number, record, reason)?,
            Text::Json(text) => ndjson(line.number, text, reason),
        };
        if self.file.is_none() {
            self.file = Some(create_private(&self.path)?);
        }
        match &mut self.file {
            Some(file) => file.write_all(text.as_bytes()),
            None => Ok(()),
        }
    }

    /// Returns a line of CSV, after the headings when it is the first.
    fn csv(&self, number: u64, record: &StringRecord, reason: &str) -> io::Result<String> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        let is_own = |heading: &str| heading.starts_with(REFUSED);
        let headings = self.headings.clone().unwrap_or_default();
        if self.file.is_none() {
            let names = headings.iter().filter(|it| !is_own(it));
            writer.write_record(names.chain(["refused_line", "refused_reason"]))?;
        }
        let cells = headings
            .iter()
            .zip(record)
            .filter(|(heading, _)| !is_own(heading));
        let cells = cells.map(|(_, cell)| cell.to_owned());
        writer.write_record(cells.chain([number.to_string(), reason.to_owned()]))?;
        let bytes = writer
            .into_inner()
            .map_err(|error| io::Error::other(error.to_string()))?;
        String::from_utf8(bytes).map_err(io::Error::other)
    }
}

/// Returns true when both paths lead to one file.
fn is_same_file(one: &Path, other: &Path) -> bool {
    let identity = |path| fs::metadata(path).ok().map(|it| (it.dev(), it.ino()));
    identity(one).is_some_and(|it| identity(other) == Some(it))
}

/// Creates a file, or empties the one that is there, and lets only its owner read it.
fn create_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    let file = options.mode(OWNER_ALONE).open(path)?;
    if file.metadata()?.is_file() {
        file.set_permissions(Permissions::from_mode(OWNER_ALONE))?;
    }
    Ok(file)
}

/// Returns a line of NDJSON: the object with why it was refused, or what is no object as text.
fn ndjson(number: u64, text: &str, reason: &str) -> String {
    let why = json!({"line": number, "reason": reason});
    let object: Option<Map<String, Value>> = serde_json::from_str(text).ok();
    let mut object = object.unwrap_or_else(|| {
        let mut object = Map::new();
        object.insert("text".to_owned(), Value::String(text.to_owned()));
        object
    });
    object.insert(REFUSED.to_owned(), why);
    format!("{}\n", Value::Object(object))
}

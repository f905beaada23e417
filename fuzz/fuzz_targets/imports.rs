//! Files of requests: any bytes, as CSV or as NDJSON. The first byte says which.
#![no_main]

use std::sync::LazyLock;

use care_invitation::client::import::line::Lines;
use care_invitation::config::client::{FileFormat, Import};
use libfuzzer_sys::fuzz_target;
use tempfile::NamedTempFile;

static FILE: LazyLock<NamedTempFile> = LazyLock::new(|| NamedTempFile::new().expect("a file"));

fuzz_target!(|input: &[u8]| {
    let Some((format, bytes)) = input.split_first() else {
        return;
    };
    std::fs::write(FILE.path(), bytes).expect("written");
    let asked = Import {
        file: FILE.path().to_owned(),
        format: Some(match format % 2 {
            0 => FileFormat::Csv,
            _ => FileFormat::Ndjson,
        }),
        care_unit: None,
        source: "fuzz".into(),
        refused: None,
    };
    let Ok(lines) = Lines::open(&asked) else {
        return;
    };
    // A file that cannot be read any further says so again and again.
    for mut line in lines.map_while(Result::ok) {
        let _ = line.take_call();
    }
});

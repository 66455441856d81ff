//! Where JSON lines go: a file, standard output, or nowhere.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;

/// Whether `--json` names standard output.
pub(crate) fn is_stdout(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Opens what `--json` names; `-` is standard output.
pub(crate) fn open(path: Option<&Path>) -> anyhow::Result<Option<Box<dyn Write>>> {
    let Some(path) = path else { return Ok(None) };
    if is_stdout(path) {
        return Ok(Some(Box::new(io::stdout())));
    }
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Some(Box::new(file)))
}

/// Writes a line, at once.
pub(crate) fn write(lines: &mut Option<Box<dyn Write>>, line: &impl Serialize) -> anyhow::Result<()> {
    let Some(lines) = lines else { return Ok(()) };
    let json = serde_json::to_string(line)?;
    writeln!(lines, "{json}").and_then(|()| lines.flush()).context("cannot write the report")
}

//! Where JSON lines go: a file, standard output, or nowhere.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use anyhow::Context as _;

/// Opens what `--json` names; `-` is standard output.
pub(crate) fn open(path: Option<&Path>) -> anyhow::Result<Option<Box<dyn Write>>> {
    let Some(path) = path else { return Ok(None) };
    if path.as_os_str() == "-" {
        return Ok(Some(Box::new(io::stdout())));
    }
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Some(Box::new(file)))
}

/// Writes a line, at once.
pub(crate) fn write(lines: &mut Option<Box<dyn Write>>, json: &str) -> anyhow::Result<()> {
    let Some(lines) = lines else { return Ok(()) };
    writeln!(lines, "{json}").and_then(|()| lines.flush()).context("cannot write the report")
}

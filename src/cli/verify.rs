//! Owns `chronik wal verify`: what is damaged in a data directory.

use super::datadir::{self, Live};
use super::failure::{Failure, ERROR, OK};
use super::output::size;
use super::parse::Args;
use super::survey::{Nothing, Survey};
use super::value::{object, Value};
use super::Session;

/// `chronik wal verify`.
pub fn run(session: &mut Session, args: &Args) -> Result<u8, Failure> {
    let dir = datadir::open(session, args, Live::Refused)?;
    let survey = Survey::all(&*dir.disk, &mut Nothing)?;
    tell(session, &survey)
}

/// Prints the findings and gives the exit code.
pub fn tell(session: &mut Session, survey: &Survey) -> Result<u8, Failure> {
    let (read, out) = (&survey.read, &mut session.out);
    if out.is_json() {
        let findings = survey.findings.iter().map(|finding| finding.json(&survey.names));
        out.json(&object([
            ("sound", (!survey.is_damaged()).into()),
            ("segments", read.segments.into()),
            ("bytes", read.bytes.into()),
            ("groups", read.groups.into()),
            ("batches", read.batches.into()),
            ("checkpoints", read.checkpoints.into()),
            ("segments_in_object_storage", (survey.remote.len() as u64).into()),
            ("findings", Value::List(findings.collect())),
        ]))?;
    } else {
        for finding in &survey.findings {
            finding.print(out, &survey.names)?;
        }
        if !out.quiet && !survey.remote.is_empty() {
            let count = survey.remote.len();
            out.line(&format!("{count} segments are in object storage only, and were not read"))?;
        }
        if !out.quiet {
            let verdict = if survey.is_damaged() { "damaged" } else { "sound" };
            out.line(&format!(
                "{verdict}: {} segments ({}), {} groups, {} batches, {} checkpoints read",
                read.segments,
                size(read.bytes),
                read.groups,
                read.batches,
                read.checkpoints
            ))?;
        }
    }
    Ok(if survey.is_damaged() { ERROR } else { OK })
}

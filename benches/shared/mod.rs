//! Owns what the clients among the benches share: their command line, and the processor time of a process.

/// Of the times in /proc, on every Linux that there is.
const TICKS_PER_SECOND: f64 = 100.0;

/// The command line: `--NAME VALUE` pairs.
pub struct Options(Vec<String>);

impl Options {
    /// Those of this program.
    pub fn of_this_program() -> Options {
        Options(std::env::args().skip(1).collect())
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        let at = self.0.iter().position(|word| word.strip_prefix("--") == Some(name))?;
        self.0.get(at + 1).map(String::as_str)
    }

    pub fn number(&self, name: &str, default: f64) -> f64 {
        self.text(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("--{name} takes a number")))
    }
}

/// User and system time of a process so far; 0 if it is none that can be looked at.
pub fn cpu_seconds(pid: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let behind_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = behind_name.split_whitespace().skip(11).take(2).filter_map(|word| word.parse::<f64>().ok());
    ticks.sum::<f64>() / TICKS_PER_SECOND
}

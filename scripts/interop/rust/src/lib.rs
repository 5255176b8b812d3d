//! Owns what the programs share: names, deadlines, and checks of which a failed one does not keep the others from running.

use std::fmt::{Debug, Display};
use std::future::Future;
use std::pin::Pin;
use std::process::exit;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What a check ends with when it does not hold: the sentence for the person who reads.
pub type Outcome = Result<(), String>;

/// A check, given the server's address.
pub type Check = fn(String) -> Pin<Box<dyn Future<Output = Outcome>>>;

const CHECK_MAX: Duration = Duration::from_secs(120);

/// A name that no earlier run has used.
pub fn fresh(stem: &str) -> String {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos());
    format!("rust-{stem}-{}-{}", std::process::id(), nanos % 1_000_000_000)
}

/// An error as a sentence.
pub fn failed<E: Display>(what: &str) -> impl FnOnce(E) -> String + '_ {
    move |error| format!("{what}: {error}")
}

/// Compares two values.
pub fn equal<T: PartialEq + Debug>(seen: T, expected: T, what: &str) -> Outcome {
    if seen == expected {
        Ok(())
    } else {
        Err(format!("{what}: expected {expected:?}, got {seen:?}"))
    }
}

/// Runs the checks named on the command line (`PROGRAM HOST:PORT [CHECK...]`), or all, and ends the program.
pub fn main(checks: &[(&str, Check)]) -> ! {
    let mut arguments = std::env::args().skip(1);
    let Some(address) = arguments.next() else {
        eprintln!("usage: PROGRAM HOST:PORT [CHECK...]");
        exit(2);
    };
    let wanted: Vec<String> = arguments.collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (mut passed, mut failures) = (0, 0);
    for (name, check) in checks {
        if !wanted.is_empty() && !wanted.iter().any(|w| w == name) {
            continue;
        }
        let begin = Instant::now();
        let outcome = runtime.block_on(async {
            let run = check(address.clone());
            tokio::time::timeout(CHECK_MAX, run).await.unwrap_or_else(|_| Err(format!("not done after {CHECK_MAX:?}")))
        });
        match outcome {
            Ok(()) => {
                passed += 1;
                println!("  ok {name} ({:.1} s)", begin.elapsed().as_secs_f64());
            }
            Err(why) => {
                failures += 1;
                println!("  FAILED {name}: {why}");
            }
        }
    }
    println!("  {passed} passed, {failures} failed");
    exit(i32::from(failures > 0 || passed == 0));
}

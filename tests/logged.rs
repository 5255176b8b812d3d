//! Owns what the code under test logs, for tests that hold it to say something once and clearly.

use std::cell::RefCell;
use std::sync::Once;

use log::{Level, LevelFilter, Log, Metadata, Record};

thread_local! {
    static LINES: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Keeps lines of those threads that listen.
struct Listener;

impl Log for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Warn
    }

    fn log(&self, record: &Record<'_>) {
        LINES.with_borrow_mut(|lines| {
            if let Some(lines) = lines {
                lines.push(format!("{} {}", record.level(), record.args()));
            }
        });
    }

    fn flush(&self) {}
}

/// Listens to warnings and errors of this thread, until it is dropped.
pub struct Logged(());

impl Logged {
    pub fn listen() -> Logged {
        static LISTENER: Once = Once::new();
        LISTENER.call_once(|| {
            log::set_logger(&Listener).expect("the only logger of the tests");
            log::set_max_level(LevelFilter::Warn);
        });
        LINES.set(Some(Vec::new()));
        Logged(())
    }

    /// What was said since the last time.
    pub fn take(&self) -> Vec<String> {
        LINES.with_borrow_mut(|lines| lines.as_mut().map(std::mem::take).unwrap_or_default())
    }
}

impl Drop for Logged {
    fn drop(&mut self) {
        LINES.set(None);
    }
}

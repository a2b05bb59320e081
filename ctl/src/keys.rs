//! Single keys from the terminal while a call lasts.

use std::io::{IsTerminal, Read, stdin};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr};
use tokio::sync::mpsc;

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Digit(char),
    Mute,
    Hold,
    Quit,
}

/// What the keys do, in a line.
pub(crate) const HELP: &str = "Keys: 0-9 * # A-D send digits, m mute, h hold, q hang up";

fn meaning(byte: u8) -> Option<Key> {
    match byte {
        b'0'..=b'9' | b'*' | b'#' | b'A'..=b'D' => Some(Key::Digit(char::from(byte))),
        b'm' => Some(Key::Mute),
        b'h' => Some(Key::Hold),
        b'q' => Some(Key::Quit),
        _ => None,
    }
}

/// Keys as they are pressed. The terminal is as it was once this is dropped.
#[derive(Debug)]
pub(crate) struct Keys {
    pressed: mpsc::Receiver<Key>,
    before: Termios,
}

impl Keys {
    /// Takes the terminal's keys; `None` when standard input is no terminal, or belongs to another job just now: to
    /// touch it then would stop this one.
    pub(crate) fn take() -> Option<Self> {
        let foreground = || Some(tcgetpgrp(stdin()).ok()? == rustix::process::getpgrp());
        if !stdin().is_terminal() || foreground() != Some(true) {
            return None;
        }
        let before = tcgetattr(stdin()).ok()?;
        let mut single = before.clone();
        // Signals stay: Ctrl-C goes on meaning an interrupt.
        single.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        tcsetattr(stdin(), OptionalActions::Now, &single).ok()?;
        let (sender, pressed) = mpsc::channel(32);
        // A read from a terminal cannot be cancelled: the thread ends with the process.
        std::thread::spawn(move || {
            for byte in stdin().lock().bytes() {
                let Ok(byte) = byte else { break };
                if let Some(key) = meaning(byte)
                    && sender.blocking_send(key).is_err()
                {
                    break;
                }
            }
        });
        Some(Self { pressed, before })
    }

    /// The next key; never, when there will be none.
    pub(crate) async fn next(keys: &mut Option<Self>) -> Key {
        if let Some(keys) = keys
            && let Some(key) = keys.pressed.recv().await
        {
            return key;
        }
        std::future::pending().await
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        // What fails here is a terminal that is gone.
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_mean_what_the_help_says() {
        assert_eq!(meaning(b'5'), Some(Key::Digit('5')));
        assert_eq!(meaning(b'#'), Some(Key::Digit('#')));
        assert_eq!(meaning(b'D'), Some(Key::Digit('D')));
        assert_eq!(meaning(b'q'), Some(Key::Quit));
        for other in [b'E', b'd', b'\n', 0x1b, 0xff] {
            assert_eq!(meaning(other), None, "{other}");
        }
    }
}

//! Colour, where a person looks and wants it.

use std::io::IsTerminal;

use clap::ValueEnum;

/// When to colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl When {
    /// Whether to colour what goes to this stream.
    pub fn applies_to(self, stream: &impl IsTerminal) -> Paint {
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let is_coloured = match self {
            When::Always => true,
            When::Never => false,
            // https://no-color.org
            When::Auto => stream.is_terminal() && !is_set("NO_COLOR") && !is_dumb,
        };
        Paint { is_coloured }
    }
}

/// What a piece of text means to the reader; how that looks is decided here alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// As the terminal has it.
    Plain,
    /// The thing to read first.
    Strong,
    /// There if wanted.
    Faint,
    /// Went well.
    Good,
    /// Went wrong.
    Bad,
    /// Worth a second look.
    Odd,
    /// A name to recognise elsewhere: a topic, an address, a command.
    Name,
}

/// A brush for one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paint {
    is_coloured: bool,
}

impl Paint {
    /// One that leaves text as it is.
    #[cfg(test)]
    pub fn plain() -> Paint {
        Paint { is_coloured: false }
    }

    /// Whether it colours at all.
    pub fn is_coloured(self) -> bool {
        self.is_coloured
    }

    /// The text in a tone.
    pub fn tone(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Plain => return text.to_owned(),
            Tone::Strong => "1",
            Tone::Faint => "2",
            Tone::Good => "32",
            Tone::Bad => "31;1",
            Tone::Odd => "33",
            Tone::Name => "36",
        };
        if self.is_coloured && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_as_it_is_without_colour() {
        assert_eq!(Paint::plain().tone(Tone::Bad, "x"), "x");
        let coloured = When::Always.applies_to(&std::io::stdout());
        assert_eq!(coloured.tone(Tone::Good, "x"), "\x1b[32mx\x1b[0m");
        assert!(!When::Never.applies_to(&std::io::stdout()).is_coloured());
    }
}

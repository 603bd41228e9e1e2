//! How to run it again, and what ran.
//!
//! Must not know: how a run is done. Invariant: the command line is quoted as a shell reads it.

use maud::{Markup, html};

use crate::report::run::Run;

pub(super) fn section(run: &Run) -> Markup {
    let command = run.result.again.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
    html! {
        section {
            h2 { "Run it again" }
            pre.command { code { (command) } }
            p.note { "With the same seed (" (run.result.seed) "), from the scenario as it ran; the folder has it beside this page." }
            @if !run.scenario.is_empty() {
                details { summary { "The scenario" } pre { code { (run.scenario) } } }
            }
        }
    }
}

fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn words_are_quoted_as_a_shell_reads_them() {
        assert_eq!(["a/b.yaml", "", "it's", "$(x)"].map(quoted), ["a/b.yaml", "''", "'it'\\''s'", "'$(x)'"]);
    }
}

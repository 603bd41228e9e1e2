//! What is embedded in each page: styles, the page's own script, and uPlot.
//!
//! Must not know: figures. Invariant: no address on a network is in it: uPlot's first comment, which is one, is left out, and its
//! licence is shown in full instead.

pub(super) const CSS: &str = include_str!("page.css");
pub(super) const JS: &str = include_str!("page.js");
pub(super) const UPLOT_VERSION: &str = "1.6.32";
pub(super) const UPLOT_LICENSE: &str = include_str!("../../../third_party/uplot/LICENSE");

const UPLOT_JS: &str = include_str!("../../../third_party/uplot/uPlot.iife.min.js");
const UPLOT_CSS: &str = include_str!("../../../third_party/uplot/uPlot.min.css");

pub(super) fn uplot_js() -> &'static str {
    UPLOT_JS.split_once("*/").map_or(UPLOT_JS, |(_, code)| code)
}

pub(super) const fn uplot_css() -> &'static str {
    UPLOT_CSS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_embedded_names_no_address_and_is_the_version_that_is_named() {
        for text in [CSS, JS, UPLOT_LICENSE, uplot_js(), uplot_css()] {
            assert!(!text.contains("http:") && !text.contains("https:") && !text.contains("</script"), "{text:.80}");
        }
        assert!(UPLOT_JS.contains(&format!("(v{UPLOT_VERSION})")));
        let note = include_str!("../../../third_party/uplot/README.md");
        assert!(note.contains(&format!("| version | {UPLOT_VERSION} |")));
    }
}

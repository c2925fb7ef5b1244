//! Writes SVG: the few shapes that a picture is made of, and nothing unescaped.

use std::fmt::Write;

/// Where a text stands from its point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// How a text looks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Font {
    pub(super) size: f64,
    pub(super) bold: bool,
    pub(super) fill: &'static str,
    pub(super) anchor: Anchor,
}

/// A picture in the making.
#[derive(Debug)]
pub(super) struct Svg(String);

impl Svg {
    /// A picture of this size on a background.
    pub(super) fn new(width: f64, height: f64, title: &str, background: &str) -> Self {
        let mut svg = Self(String::new());
        svg.put(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" role=\"img\" font-family=\"Inter, 'Helvetica Neue', \
             Arial, 'DejaVu Sans', sans-serif\">"
        ));
        svg.put(format_args!("<title>{}</title>", escaped(title)));
        // The marks of cuts in one direction.
        svg.put(format_args!(
            "<defs><pattern id=\"hatch\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" \
             patternTransform=\"rotate(45)\"><line x1=\"0\" y1=\"0\" x2=\"0\" y2=\"6\" \
             stroke=\"#22303c\" stroke-opacity=\"0.16\" stroke-width=\"2\"/></pattern></defs>"
        ));
        svg.rect((0.0, 0.0), (width, height), background, 1.0);
        svg
    }

    /// The whole of it.
    pub(super) fn finish(mut self) -> String {
        self.0.push_str("</svg>\n");
        self.0
    }

    fn put(&mut self, shape: std::fmt::Arguments<'_>) {
        let _ = writeln!(self.0, "{shape}");
    }

    pub(super) fn rect(&mut self, at: (f64, f64), size: (f64, f64), fill: &str, opacity: f64) {
        self.put(format_args!(
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{fill}\" \
             fill-opacity=\"{opacity}\"/>",
            at.0,
            at.1,
            size.0.max(0.0),
            size.1.max(0.0)
        ));
    }

    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), stroke: &str, width: f64) {
        self.put(format_args!(
            "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{stroke}\" \
             stroke-width=\"{width}\"/>",
            from.0, from.1, to.0, to.1
        ));
    }

    /// A filled shape, in the commands of a path.
    pub(super) fn shape(&mut self, path: &str, fill: &str) {
        if !path.is_empty() {
            self.put(format_args!("<path d=\"{path}\" fill=\"{fill}\"/>"));
        }
    }

    /// A line, in the commands of a path.
    pub(super) fn stroke(&mut self, path: &str, stroke: &str, width: f64) {
        if !path.is_empty() {
            self.put(format_args!(
                "<path d=\"{path}\" fill=\"none\" stroke=\"{stroke}\" stroke-width=\"{width}\" \
                 stroke-linejoin=\"round\"/>"
            ));
        }
    }

    pub(super) fn text(&mut self, at: (f64, f64), font: Font, text: &str) {
        let anchor = match font.anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let weight = if font.bold { 600 } else { 400 };
        self.put(format_args!(
            "<text x=\"{:.1}\" y=\"{:.1}\" font-size=\"{}\" font-weight=\"{weight}\" \
             fill=\"{}\" text-anchor=\"{anchor}\">{}</text>",
            at.0,
            at.1,
            font.size,
            font.fill,
            escaped(text)
        ));
    }
}

/// Text that stands for itself in XML. What XML cannot say at all is left out.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\t' | '\n' => out.push(' '),
            '\u{fffe}' | '\u{ffff}' => {}
            other if other.is_control() => {}
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped() {
        assert_eq!(escaped("a <b> & \"c\"\u{1}\n"), "a &lt;b&gt; &amp; &quot;c&quot; ");
    }
}

//! The text in which metrics are told: OpenMetrics, and the older text format of Prometheus. Knows no metric.
//!
//! The two differ, as far as we use them, in one thing: OpenMetrics names a counter `x` and its series `x_total` (an info
//! `x` and `x_info`), where the older format uses one name for both. What is only OpenMetrics' (`# UNIT`, `# EOF`) is a
//! comment there.

use std::fmt::{self, Write};

use prometheus_client::registry::Registry;

use super::families::PREFIX;
use super::{Scrape, samples};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    OpenMetrics,
    /// The text format 0.0.4, which `promtool check metrics` reads as well.
    Plain,
}

impl Form {
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Plain => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

pub(super) fn write(scrape: &Scrape, to: &mut dyn Write, form: Form) -> fmt::Result {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(samples::All(scrape.clone())));
    let mut lines = Lines { to, form, line: String::new(), of_type: None };
    prometheus_client::encoding::text::encode(&mut lines, &registry)?;
    lines.finish()
}

/// Cuts what is written into lines, and gives each its form.
struct Lines<'a> {
    to: &'a mut dyn Write,
    form: Form,
    line: String,
    /// `# HELP` waits for the type that comes after it.
    of_type: Option<String>,
}

impl Write for Lines<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.form == Form::OpenMetrics {
            return self.to.write_str(text);
        }
        for piece in text.split_inclusive('\n') {
            self.line.push_str(piece);
            if piece.ends_with('\n') {
                self.end_line()?;
            }
        }
        Ok(())
    }
}

impl Lines<'_> {
    fn end_line(&mut self) -> fmt::Result {
        let line = std::mem::take(&mut self.line);
        if line.starts_with("# HELP ") {
            self.of_type = Some(line);
            return Ok(());
        }
        let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|rest| rest.trim_end().split_once(' '))
        else {
            self.to.write_str(&line)?;
            // Its memory serves the next line.
            self.line = line;
            self.line.clear();
            return Ok(());
        };
        let (suffix, kind) = match kind {
            "counter" => ("_total", "counter"),
            "info" => ("_info", "gauge"),
            other => ("", other),
        };
        if let Some(help) = self.of_type.take() {
            let meaning =
                help.strip_prefix("# HELP ").and_then(|rest| rest.strip_prefix(name)).unwrap_or("\n");
            write!(self.to, "# HELP {name}{suffix}{meaning}")?;
        }
        writeln!(self.to, "# TYPE {name}{suffix} {kind}")
    }

    fn finish(&mut self) -> fmt::Result {
        self.to.write_str(&std::mem::take(&mut self.line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_format_has_one_name_for_a_counter_and_its_series() {
        let check = |text: &str, expected: &str| {
            let mut plain = String::new();
            let mut lines = Lines { to: &mut plain, form: Form::Plain, line: String::new(), of_type: None };
            // However it is cut.
            for piece in text.as_bytes().chunks(3) {
                lines.write_str(std::str::from_utf8(piece).unwrap()).unwrap();
            }
            lines.finish().unwrap();
            assert_eq!(plain, expected);
        };
        check(
            "# HELP a_runs Runs.\n# TYPE a_runs counter\na_runs_total{x=\"# TYPE y counter\"} 1\n",
            "# HELP a_runs_total Runs.\n# TYPE a_runs_total counter\na_runs_total{x=\"# TYPE y counter\"} 1\n",
        );
        check(
            "# HELP a A.\n# TYPE a info\na_info{v=\"1\"} 1\n# HELP b_seconds B.\n# TYPE b_seconds gauge\n# UNIT b_seconds \
             seconds\nb_seconds 1.5\n# EOF\n",
            "# HELP a_info A.\n# TYPE a_info gauge\na_info{v=\"1\"} 1\n# HELP b_seconds B.\n# TYPE b_seconds gauge\n\
             # UNIT b_seconds seconds\nb_seconds 1.5\n# EOF\n",
        );
    }
}

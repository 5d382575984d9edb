//! `man`: one page of all verbs, from the same definitions as the help.

use std::io::{self, Write};

use clap::CommandFactory;
use clap_mangen::Man;

use super::args::Cli;
use super::failure::{Failure, code};
use super::output;

const REST: &str = r#".SH "EXIT STATUS"
.TP
0
Done.
.TP
1
The job failed, timed out or was cancelled.
.TP
2
The command line or the file is wrong.
.TP
3
The daemon is needed and doesn't answer.
.TP
4
Not run, since it runs already.
.SH ENVIRONMENT
.TP
PUNK_ECO_SCHED_CONFIG
The table of jobs, where \-\-config doesn't name one.
.TP
NO_COLOR
No colour, even on a terminal.
.TP
VISUAL, EDITOR
The editor of \fBedit\fR; without them sensible\-editor, then vi.
.TP
STATE_DIRECTORY, LOGS_DIRECTORY, RUNTIME_DIRECTORY, CREDENTIALS_DIRECTORY
As systemd sets them for the daemon.
.SH FILES
.TP
/etc/punk\-eco\-sched/jobs.yaml
The table of jobs; ./jobs.yaml where that is absent.
.TP
/run/punk\-eco\-sched/control.sock
The control socket, for root and the group of its directory.
.TP
/var/lib/punk\-eco\-sched/ledger.db
What became of every slot.
.TP
/var/log/punk_eco
One rotating log a job.
"#;

pub(super) fn run() -> Result<u8, Failure> {
    let mut page = Vec::new();
    render(&mut page)?;
    let mut out = output::data();
    out.write_all(&page)?;
    out.flush()?;
    Ok(code::DONE)
}

fn render(page: &mut Vec<u8>) -> io::Result<()> {
    let mut command = Cli::command();
    command.build();
    let main = Man::new(command.clone()).section("8").manual("System administration");
    main.render_title(page)?;
    main.render_name_section(page)?;
    main.render_synopsis_section(page)?;
    main.render_description_section(page)?;
    main.render_options_section(page)?;
    for verb in command.get_subcommands() {
        let mut section = Vec::new();
        let man = Man::new(verb.clone());
        man.render_synopsis_section(&mut section)?;
        man.render_description_section(&mut section)?;
        man.render_options_section(&mut section)?;
        writeln!(page, ".SH \"{}\"", verb.get_name().to_uppercase())?;
        // The sections of a verb's own page become parts of its section of this one.
        page.extend(String::from_utf8_lossy(&section).replace("\n.SH ", "\n.SS ").bytes());
    }
    page.write_all(REST.as_bytes())
}

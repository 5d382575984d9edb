//! The usual scheduler crate in the smallest daemon around it: reads lines of `EXPRESSION<tab>PROGRAM<tab>ARGUMENT`
//! (six fields, UTC), says `ready`, and starts the programs when they are due.

use std::process::Stdio;

use tokio_cron_scheduler::{Job, JobScheduler};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::args().nth(1).ok_or("usage: peer-tokio-cron-scheduler FILE")?;
    let scheduler = JobScheduler::new().await?;
    for line in std::fs::read_to_string(file)?.lines() {
        let mut parts = line.split('\t').map(str::to_owned);
        let (Some(expression), Some(program), Some(argument)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(format!("not a job: {line}").into());
        };
        let job = Job::new_async(expression.as_str(), move |_, _| {
            let (program, argument) = (program.clone(), argument.clone());
            Box::pin(async move {
                let child = tokio::process::Command::new(program).arg(argument).stdin(Stdio::null()).spawn();
                if let Ok(mut child) = child {
                    let _ = child.wait().await;
                }
            })
        })?;
        scheduler.add(job).await?;
    }
    scheduler.start().await?;
    println!("ready");
    tokio::signal::ctrl_c().await?;
    Ok(())
}

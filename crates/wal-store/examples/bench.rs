//! throw-away
use std::time::Instant;
use wal_model::*;
use wal_store::{embedded::Embedded, samples::*, *};
#[tokio::main]
async fn main() {
    let dir = std::path::PathBuf::from(std::env::args().nth(1).unwrap_or("/work/main/target/bench-store".into()));
    let _ = std::fs::remove_dir_all(&dir);
    let s = Embedded::open(&dir).unwrap();
    let text = format!("{{\"d\":\"{}\"}}", "x".repeat(1016));
    for per in [1usize, 10, 100, 1000] {
        let rounds = if per == 1000 { 100 } else { 100 };
        let mut batches: Vec<Vec<Entry>> = Vec::new();
        for r in 0..rounds {
            batches.push(
                (0..per)
                    .map(|i| Entry {
                        payload: bytes::Bytes::from(text.clone()),
                        tenant: Some(tenant("t")),
                        request_id: Some(id(&format!("{r}-{i}"))),
                        correlation_id: Some(id(&format!("c{i}"))),
                        ..entry_in("orders", WRITTEN_AT + r, &format!("{per}-{r}-{i}"))
                    })
                    .collect(),
            );
        }
        let t = Instant::now();
        let mut worst = std::time::Duration::ZERO;
        for b in &batches {
            let t = Instant::now();
            s.insert(b).await.unwrap();
            worst = worst.max(t.elapsed());
        }
        let e = t.elapsed();
        println!(
            "{per}: {:.0} docs/s, {:?} per call, worst {worst:?}",
            (per * rounds as usize) as f64 / e.as_secs_f64(),
            e / rounds as u32
        );
        if per == 1000 {
            let t = Instant::now();
            for b in &batches {
                let ev: Vec<_> = b.iter().map(|e| (e.key(), completed(e, 1))).collect();
                s.apply(&ev).await.unwrap();
            }
            println!("apply: {:.0}/s", (per * rounds as usize) as f64 / t.elapsed().as_secs_f64());
            let t = Instant::now();
            for b in &batches {
                s.insert(b).await.unwrap();
            }
            println!("present: {:.0}/s", (per * rounds as usize) as f64 / t.elapsed().as_secs_f64());
            let t = Instant::now();
            for b in &batches {
                s.get(&b.iter().map(Entry::key).collect::<Vec<_>>()).await.unwrap();
            }
            println!("get: {:.0}/s", (per * rounds as usize) as f64 / t.elapsed().as_secs_f64());
            let t = Instant::now();
            let n = batches[..20]
                .iter()
                .flatten()
                .map(|e| document::encode(e, document::ReadableCopy::Omitted).len())
                .sum::<usize>();
            println!("encode: {:.0}/s {} bytes each", 20_000.0 / t.elapsed().as_secs_f64(), n / 20_000);
        }
    }
    println!("file {} MB", std::fs::metadata(dir.join("entries.redb")).unwrap().len() / 1_000_000);
    let t = Instant::now();
    drop(s);
    println!("close {:?}", t.elapsed());
    let t = Instant::now();
    let s = Embedded::open(&dir).unwrap();
    println!("open {:?}", t.elapsed());
    let crashed = dir.join("crashed");
    std::fs::create_dir(&crashed).unwrap();
    std::fs::copy(dir.join("entries.redb"), crashed.join("entries.redb")).unwrap();
    let t = Instant::now();
    Embedded::open(&crashed).unwrap();
    println!("open after a crash {:?}", t.elapsed());
    drop(s);
    std::fs::remove_dir_all(&dir).unwrap();
}

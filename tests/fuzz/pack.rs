//! Puts the inputs that are in a folder into one file, for the repository, and takes them out again:
//! `pack FOLDER FILE`, `pack --out FILE FOLDER`. Each input has its length before it, in two bytes; the shortest is first.

use std::process::ExitCode;
use std::{env, fs, io};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["--out", file, folder] => unpack(file, folder),
        [folder, file] => pack(folder).and_then(|bytes| fs::write(file, bytes)),
        _ => {
            eprintln!("usage: pack FOLDER FILE, or pack --out FILE FOLDER");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}: {error}", words.join(" "));
            ExitCode::FAILURE
        }
    }
}

fn pack(folder: &str) -> io::Result<Vec<u8>> {
    let mut inputs =
        fs::read_dir(folder)?.map(|entry| fs::read(entry?.path())).collect::<io::Result<Vec<Vec<u8>>>>()?;
    inputs.sort_by(|one, other| (one.len(), one).cmp(&(other.len(), other)));
    let mut bytes = Vec::new();
    for input in inputs {
        let length = u16::try_from(input.len()).map_err(io::Error::other)?;
        bytes.extend(length.to_be_bytes());
        bytes.extend(input);
    }
    Ok(bytes)
}

fn unpack(file: &str, folder: &str) -> io::Result<()> {
    let bytes = fs::read(file)?;
    let mut rest = bytes.as_slice();
    let mut number = 0;
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes(*length));
        let (input, after) = after.split_at_checked(length).ok_or(io::ErrorKind::UnexpectedEof)?;
        rest = after;
        fs::write(format!("{folder}/packed-{number}"), input)?;
        number += 1;
    }
    Ok(())
}

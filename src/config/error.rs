//! What can be wrong with a configuration file: every mistake with its place, all of them at once.

use std::fmt;
use std::path::PathBuf;

/// One mistake and where it is. Lines and columns count from 1, columns in characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Line in the file, from 1; 0 when the mistake has no place (the file cannot be read).
    pub line: u32,
    /// Column in that line, from 1.
    pub column: u32,
    /// What is wrong, in words that name the thing.
    pub message: String,
}

/// All mistakes of one file, in the order of their places; never empty when it is returned as an
/// error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes {
    /// The file as the user named it.
    pub file: PathBuf,
    /// What is wrong with it.
    pub list: Vec<Mistake>,
}

impl fmt::Display for Mistakes {
    /// One line for each mistake: `file:line:column: message`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, mistake) in self.list.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            let file = self.file.display();
            match mistake.line {
                0 => write!(f, "{file}: {}", mistake.message)?,
                line => write!(f, "{file}:{line}:{}: {}", mistake.column, mistake.message)?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

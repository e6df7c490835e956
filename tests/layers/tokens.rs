//! Rust as words and signs, as far as it takes to find paths in it: without comments and strings.

/// Words, `::`, and other characters one by one.
pub fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let until = |end: &str| rest.find(end).map_or(rest.len(), |at| at + end.len());
        let length = match c {
            '/' if rest.starts_with("//") => until("\n"),
            '/' if rest.starts_with("/*") => until("*/"),
            'r' if rest.starts_with("r#\"") => until("\"#"),
            '"' => string(rest),
            // a character, or else a lifetime
            '\'' if rest.starts_with("'\\") => 3 + rest[3..].find('\'').unwrap_or(0),
            '\'' if rest[1..].chars().nth(1) == Some('\'') => 2 + rest[1..].find('\'').unwrap_or(0),
            ':' if rest.starts_with("::") => 2,
            _ if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            _ => c.len_utf8(),
        };
        if is_word(c) && !rest.starts_with("r#\"")
            || rest.starts_with("::")
            || "{}()[];,*#".contains(c)
        {
            tokens.push(&rest[..length]);
        } else if !c.is_whitespace() {
            tokens.push(" ");
        }
        rest = &rest[length..];
    }
    tokens
}

/// How long a string is, with its quotes.
fn string(text: &str) -> usize {
    let mut escaped = false;
    let end = text.char_indices().skip(1).find(|(_, c)| {
        let is_end = *c == '"' && !escaped;
        escaped = *c == '\\' && !escaped;
        is_end
    });
    end.map_or(text.len(), |(at, _)| at + 1)
}

/// Whether it is a word that may name something.
pub fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

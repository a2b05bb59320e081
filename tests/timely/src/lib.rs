//! The attribute of tests that carry sound in real time.

use proc_macro::{Delimiter, Group, TokenStream, TokenTree};

/// Makes a test of an asynchronous function, as `#[tokio::test]` does. Where the test fails and the machine was late
/// meanwhile, its outcome says nothing of voipd: it is run again (`voipd_tests::pace`).
#[proc_macro_attribute]
pub fn timely(_: TokenStream, item: TokenStream) -> TokenStream {
    let mut tokens = item.into_iter().peekable();
    // What else is said of the test: `#` and what follows it in brackets.
    let mut test = TokenStream::new();
    while matches!(tokens.peek(), Some(TokenTree::Punct(sign)) if sign.as_char() == '#') {
        test.extend(tokens.by_ref().take(2));
    }
    let mut body: TokenStream = tokens.collect();
    let function = body.clone().into_iter().skip_while(|token| token.to_string() != "fn").nth(1);
    let Some(TokenTree::Ident(name)) = function else {
        return "compile_error!(\"`timely` makes tests of functions\");".parse().unwrap_or_default();
    };
    let parsed = |text: String| text.parse::<TokenStream>().unwrap_or_default();
    body.extend(parsed(format!("voipd_tests::pace::run(stringify!({name}), {name})")));
    test.extend(parsed(format!("#[test] fn {name}()")));
    test.extend([TokenTree::Group(Group::new(Delimiter::Brace, body))]);
    test
}

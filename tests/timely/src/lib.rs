//! The attribute of tests that carry sound in real time.

use proc_macro::{Delimiter, Group, TokenStream, TokenTree};

/// Makes a test of an asynchronous function, as `#[tokio::test]` does. Where the test fails and the machine was late
/// meanwhile, its outcome says nothing of voipd: it is run again (`voipd_tests::pace`).
#[proc_macro_attribute]
pub fn timely(_: TokenStream, item: TokenStream) -> TokenStream {
    let mut tokens = item.clone().into_iter();
    let function = tokens.by_ref().find(|token| token.to_string() == "fn").and_then(|_| tokens.next());
    let Some(TokenTree::Ident(name)) = function else {
        return "compile_error!(\"`timely` makes tests of functions\");".parse().unwrap_or_default();
    };
    let parsed = |text: String| text.parse::<TokenStream>().unwrap_or_default();
    let mut body = item;
    body.extend(parsed(format!("voipd_tests::pace::run(stringify!({name}), {name})")));
    let mut test = parsed(format!("#[test] fn {name}()"));
    test.extend([TokenTree::Group(Group::new(Delimiter::Brace, body))]);
    test
}

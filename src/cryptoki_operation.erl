%% The Erlang door to multi-part operations; see cryptoki.erl.
-module(cryptoki_operation).

-include("cryptoki.hrl").

?MODULEDOC("
A multi-part operation: begun with `cryptoki:start/5` on a session, fed piece by piece, finished.

    1> {ok, Digest} = cryptoki:with_session(hsm, fun(Session) ->
    ..     {ok, Op} = cryptoki:start(Session, digest, sha256),
    ..     ok = cryptoki_operation:update(Op, <<\"abc\">>),
    ..     cryptoki_operation:finish(Op)
    .. end).
    2> true = Digest =:= crypto:hash(sha256, <<\"abc\">>).
").

-export([update/2, message/3, message/4, finish/1, finish/2, cancel/1, save/1, restore/3, restore/4]).

?DOC("
Feeds iodata of any length; `{ok, Bytes}` for `encrypt` and `decrypt`, `ok` for the others. A digest
also takes `{key, Selector}`.

Errors: `session_lost`, `key_indigestible`. PKCS #11 v3.2, sections 5.8 to 5.15.

    1> {ok, Secret} = cryptoki:with_session(hsm, fun(Session) ->
    ..     {ok, Op} = cryptoki:start(Session, encrypt, #{label => <<\"archive\">>}, {aes_cbc_pad, #{iv => <<0:128>>}}),
    ..     {ok, First} = cryptoki_operation:update(Op, <<\"some text\">>),
    ..     {ok, Last} = cryptoki_operation:finish(Op),
    ..     {ok, <<First/binary, Last/binary>>}
    .. end).
    2> 16 = byte_size(Secret).
").
-spec update(cryptoki:operation(), iodata() | {key, cryptoki:selector()}) ->
    ok | {ok, binary()} | cryptoki:error().
update(Op, Data) -> call(update, [Op, Data]).

?DOC("
One message of a message-based operation; `Cryptoki.Operation` in Elixir has the table of parameters
and answers. `Extra` is associated data, or the signature to verify.

Errors: `aead_decrypt_failed`, `signature_invalid`. PKCS #11 v3.2, sections 5.9, 5.11, 5.14 and 5.16.

    {ok, #{ciphertext := C, iv := Iv, tag := Tag}} =
        cryptoki_operation:message(Op, #{iv => {generate, 12}}, <<\"header\">>, <<\"text\">>).
").
-spec message(cryptoki:operation(), map() | binary() | nil, iodata(), cryptoki:data()) ->
    ok | {ok, binary() | map()} | cryptoki:error().
message(Op, Parameters, Extra, Data) -> call(message, [Op, Parameters, Extra, Data]).

?SAME_AS("message/4").
-spec message(cryptoki:operation(), map() | binary() | nil, cryptoki:data()) ->
    ok | {ok, binary() | map()} | cryptoki:error().
message(Op, Parameters, Data) -> message(Op, Parameters, <<>>, Data).

?DOC("
Ends the operation: the signature, the digest or the last bytes; `verify` takes the signature.

Errors: `signature_invalid`, and what the token says of the data as a whole. PKCS #11 v3.2, sections
5.8 to 5.16.

    1> {error, {signature_invalid, _}} = cryptoki:with_session(hsm, fun(Session) ->
    ..     {ok, Op} = cryptoki:start(Session, verify, #{label => <<\"invoice\">>}, sha256_rsa_pkcs),
    ..     ok = cryptoki_operation:update(Op, <<\"text\">>),
    ..     cryptoki_operation:finish(Op, <<0:2048>>)
    .. end).
").
-spec finish(cryptoki:operation(), binary() | nil) -> ok | {ok, binary()} | cryptoki:error().
finish(Op, Signature) -> call(finish, [Op, Signature]).

?SAME_AS("finish/2").
-spec finish(cryptoki:operation()) -> ok | {ok, binary()} | cryptoki:error().
finish(Op) -> finish(Op, nil).

?DOC("
Gives the operation up; the session is free for another of its kind.

PKCS #11 v3.2, section 5.6.5; libraries without it get the session reopened.

    1> ok = cryptoki:with_session(hsm, fun(Session) ->
    ..     {ok, Op} = cryptoki:start(Session, digest, sha256),
    ..     cryptoki_operation:cancel(Op)
    .. end).
").
-spec cancel(cryptoki:operation()) -> ok | cryptoki:error().
cancel(Op) -> call(cancel, [Op]).

?DOC("
What the operation has come to, in the token's own format, for `restore/4`. Treat it as a secret.

Errors: `state_unsaveable`, `function_not_supported`. PKCS #11 v3.2, section 5.6.6.

    {ok, State} = cryptoki_operation:save(Op).
").
-spec save(cryptoki:operation()) -> {ok, binary()} | cryptoki:error().
save(Op) -> call(save, [Op]).

?DOC("
Makes an operation of what `save/1` gave, on a session that is in none. Some tokens want the key
again: `encryption_key` or `authentication_key`.

Errors: `saved_state_invalid`, `key_needed`, `key_changed`. PKCS #11 v3.2, section 5.6.7.

    {ok, Op} = cryptoki_operation:restore(Session, digest, State).
").
-spec restore(cryptoki:session(), cryptoki:kind(), binary(), cryptoki:options()) ->
    {ok, cryptoki:operation()} | cryptoki:error().
restore(Session, Kind, State, Options) -> call(restore, [Session, Kind, State, Options]).

?SAME_AS("restore/4").
-spec restore(cryptoki:session(), cryptoki:kind(), binary()) ->
    {ok, cryptoki:operation()} | cryptoki:error().
restore(Session, Kind, State) -> restore(Session, Kind, State, #{}).

call(Function, Arguments) ->
    'Elixir.Cryptoki.Erlang':call('Elixir.Cryptoki.Operation', Function, {?MODULE, Function}, Arguments).

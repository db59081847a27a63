%% The Erlang door: the verbs of the Elixir module `Cryptoki`, which does the work and whose docs say
%% more. test/erlang_test.exs compares the two and runs the examples.
-module(cryptoki).

-include("cryptoki.hrl").

?MODULEDOC("
Keys in an HSM, smart card, TPM or software token, through the vendor's PKCS #11 library.

    {ok, _} = cryptoki:start_link(#{name => hsm,
                                    library => <<\"/usr/lib/softhsm/libsofthsm2.so\">>,
                                    token => #{label => <<\"payments\">>},
                                    pin => {file, <<\"/run/secrets/pin\">>}}),
    {ok, Signature} = cryptoki:sign(hsm, #{label => <<\"invoice\">>}, sha256_rsa_pkcs, Data).

Options, selectors and templates are maps; a name of the standard is itself in lower case without
its prefix: `CKM_AES_GCM` is `aes_gcm`. Text is a UTF-8 binary.

Functions answer `ok`, `{ok, Value}` or `{error, {Reason, Info}}`, where `Info` has the C `function`
that answered, its `code` (`nil` when the error is ours), `detail` and `executed`: `false` when the
token did not do what was asked, `maybe` when it may have. `format_error/1` makes a sentence of it.
Besides the errors a function names, each can answer `timeout`, `busy`, `shutdown`, `token_absent`,
`locked` and what the token has to say. A mistake in the call itself is `badarg`, before anything
is sent; the shell says which argument is wrong, and why.
").

-export([start_link/1, child_spec/1, stop/1, status/1, unlock/2, unlock/3, subscribe/1,
         unsubscribe/2]).
-export([library_info/1, library_info/2, slots/1, slots/2, token_info/1, token_info/2,
         mechanisms/1, mechanisms/2, mechanism_info/2, mechanism_info/3]).
-export([find/2, find/3, find_one/2, find_one/3, stream/2, stream/3, attributes/3, attributes/4,
         size/2, size/3, update/3, update/4, create/2, create/3, copy/3, copy/4,
         destroy/2, destroy/3, public_key/2, public_key/3, certificate/2, certificate/3,
         import_certificate/3, import_certificate/4]).
-export([generate_key/3, generate_key/4, generate_key_pair/3, generate_key_pair/4, import_key/3,
         import_key/4, check_value/2, check_value/3]).
-export([sign/4, sign/5, verify/5, verify/6, is_valid/5, is_valid/6, sign_recover/4,
         sign_recover/5, verify_recover/4, verify_recover/5]).
-export([encrypt/4, encrypt/5, decrypt/4, decrypt/5, encrypt_stream/4, encrypt_stream/5,
         decrypt_stream/4, decrypt_stream/5]).
-export([digest/3, digest/4, random/2, random/3, seed_random/2, seed_random/3]).
-export([wrap_key/4, wrap_key/5, unwrap_key/5, unwrap_key/6, derive_key/4, derive_key/5,
         encapsulate_key/4, encapsulate_key/5, decapsulate_key/5, decapsulate_key/6]).
-export([with_session/2, with_session/3, start/3, start/4, start/5, session_info/1, session_info/2,
         validation_flags/1, validation_flags/2]).
-export([fold/3, format_error/1, format_error/2]).
-export_type([hsm/0, session/0, selector/0, object/0, mechanism/0, template/0, attribute/0, data/0,
              importable/0,
              chunks/0, chunks/1, stream/1, pin/0, kind/0, operation/0, start_options/0, options/0,
              error/0, error_reason/0]).

?DOC("An instance, a session of one, or a group of `cryptoki_group`.").
-type hsm() :: atom() | pid() | {atom(), node()} | {global, term()} | {via, module(), term()} | session().
-type session() :: 'Elixir.Cryptoki.Session':t().
-type operation() :: 'Elixir.Cryptoki.Operation':t().

?DOC("How a key is named: attributes, a PKCS #11 URI (RFC 7512), or what `find_one/2` answered.").
-type selector() :: template() | unicode:chardata() | object().

?DOC("A reference to an object of a token: a map with `class`, `key_type`, `label`, `id`, `token`.").
-type object() :: 'Elixir.Cryptoki.Key':t().

?DOC("The standard's name in lower case, or a number.").
-type attribute() :: atom() | non_neg_integer().
-type template() :: #{attribute() => term()}.

?DOC("The file of a key, the bytes of a secret key, a record of `public_key`, or a JWK as a map with binaries.").
-type importable() :: binary() | {aes | hmac | generic_secret | pkcs12, binary()} | tuple()
                    | #{binary() => term()}.

?DOC("A name, a name with arguments, or a name or number with the bytes of the parameter.").
-type mechanism() :: atom() | non_neg_integer()
                   | {atom() | non_neg_integer(), #{atom() => term()} | binary()}.

?DOC("`{stream, Chunks}` runs piece by piece on one session, with bounded memory.").
-type data() :: iodata() | {stream, chunks()}.
-type chunks() :: chunks(iodata()).

?DOC("A list, a lazy list (a function that gives `[]` or `[Chunk | Function]`), or a stream.").
-type chunks(Chunk) :: [Chunk] | fun(() -> [] | nonempty_improper_list(Chunk, chunks(Chunk)))
                     | stream(Chunk).

?DOC("What `fold/3` consumes: an Elixir stream.").
-type stream(_Element) :: fun((term(), term()) -> term()) | map() | [term()].

?DOC("
Where the PIN comes from at each login: a function, `{Module, Function, Arguments}`, an environment
variable, the first line of a file, the token's own keypad, or the PIN itself.
").
-type pin() :: fun(() -> unicode:chardata()) | {module(), atom(), [term()]} | {env, unicode:chardata()}
             | {file, file:name_all()} | protected_path | unicode:chardata().

-type kind() :: sign | verify | encrypt | decrypt | digest
              | message_sign | message_verify | message_encrypt | message_decrypt.

?DOC("The options of `start_link/1`, which `Cryptoki` in Elixir describes.").
-type start_options() ::
    #{name => atom(),
      library => file:name_all(),
      token => #{label | serial | manufacturer | model => unicode:chardata(), slot => non_neg_integer()}
             | unicode:chardata(),
      uri => unicode:chardata(),
      pin => pin(),
      sessions => 1..1024,
      user => user | so | {named, unicode:chardata()},
      read_only => boolean(),
      timeout => timeout(),
      queue_limit => 1..1000000,
      init_args => unicode:chardata(),
      env => #{unicode:chardata() => unicode:chardata()},
      reconnect => #{min => pos_integer(), max => pos_integer()},
      watch => #{min => pos_integer(), max => pos_integer()},
      locking => os | serialized,
      interface => {2..3, 0..255},
      isolation => none | process,
      memory => pos_integer(),
      kill_after => pos_integer()}.

?DOC("
The options of a call: `timeout` in milliseconds, `pin` for a key that wants one at each use,
`metadata` of the telemetry events, `format` of an ECDSA signature, and those of single functions.
").
-type options() ::
    #{timeout => timeout(),
      pin => pin(),
      how => auto | create | unwrap,
      password => pin(),
      metadata => map(),
      format => raw | der,
      associated_data => iodata(),
      signature => iodata(),
      signature_first => boolean(),
      digest => mechanism(),
      sign => {selector(), mechanism()},
      verify => {selector(), mechanism(), iodata()},
      encryption_key => selector(),
      authentication_key => selector()}.

-type error() :: {error, error_reason()}.

?DOC("
The reason is an atom of those that `Cryptoki.Error` in Elixir lists, another `CKR_` name in lower
case, or a number that has none.
").
-type error_reason() ::
    {atom() | non_neg_integer(),
     #{function := atom(), code := non_neg_integer() | nil, executed := false | 'maybe',
       detail := binary() | nil, member => atom() | pid() | {atom(), node()}}}.

%%% Instances

?DOC("Starts an instance: finds the token, logs in, opens the sessions. Without the token it is
`absent` and connects when it comes; after a refused PIN it is `locked` until `unlock/3`.

Errors: `library_not_loaded`. PKCS #11 v3.2, sections 5.4 to 5.6.

    1> {ok, Pid} = cryptoki:start_link(#{library => Library, token => #{label => <<\"payments\">>},
    ..     pin => fun() -> Pin end, sessions => 1}).
    2> {ok, #{state := ready}} = cryptoki:status(Pid).
    3> ok = cryptoki:stop(Pid).").
-spec start_link(start_options()) -> {ok, pid()} | error() | {error, term()}.
start_link(Options) -> call(start_link, [Options]).

?DOC("The child of a supervisor. The options are checked here already, and a PIN given as a string is
wrapped so that no report shows it.

    1> #{id := hsm_2, type := supervisor} =
    ..     cryptoki:child_spec(#{name => hsm_2, library => Library, token => #{slot => 3}}).").
-spec child_spec(start_options()) -> supervisor:child_spec().
child_spec(Options) ->
    #{start := {_, start_link, Checked}} = Spec = call(child_spec, [Options]),
    Spec#{start := {?MODULE, start_link, Checked}}.

?DOC("Stops an instance: new calls and those in the queue get `shutdown`, those that run are waited
for. `ok` also when it does not run.

PKCS #11 v3.2, sections 5.6.2 and 5.4.2.

    1> ok = cryptoki:stop(no_such_instance).").
-spec stop(hsm()) -> ok.
stop(Hsm) -> call(stop, [Hsm]).

?DOC("What is the matter with the HSM: `state` is `ready`, `absent` or `locked`; `health` is `ok`,
`degraded` (some sessions serve), `failing` (nothing but device errors), `unresponsive` (the library does
not return) or `down`; `reason` is why (`{Reason, Info}` or `nil`), `login` whether the token took the PIN,
and `oldest_call` the call that has been in the library for longest. Answers at once, whatever the token
does.

Errors: `shutdown`.

    1> {ok, #{state := ready, health := ok, reason := nil}} = cryptoki:status(hsm).").
-spec status(hsm()) -> {ok, map()} | error().
status(Hsm) -> call(status, [Hsm]).

?DOC("Logs in with another PIN, which takes the place of the instance's own when the token takes it. One
that this token has refused, or whose fate is not known, is not tried again, nor is the last try used up,
unless `force => true` says so.

Errors: `pin_incorrect`, `pin_locked`, `pin_unavailable`, `token_absent`. PKCS #11 v3.2, section 5.6.8.

    1> ok = cryptoki:unlock(hsm, fun() -> Pin end).").
-spec unlock(hsm(), pin(), #{force => boolean(), timeout => timeout()}) -> ok | error().
unlock(Hsm, Pin, Options) -> call(unlock, [Hsm, Pin, Options]).

?SAME_AS("unlock/3").
-spec unlock(hsm(), pin()) -> ok | error().
unlock(Hsm, Pin) -> unlock(Hsm, Pin, #{}).

?DOC("Has the calling process told about the token: `{cryptoki, Ref, {token_inserted | token_removed,
Token}}`, `{cryptoki, Ref, {state, State, Error}}` and, while the state stays, `{cryptoki, Ref, {health,
Health, Error}}`, where `Error` is `nil` or something for `format_error/1`.

PKCS #11 v3.2, section 5.5.4.

    1> {ok, Ref} = cryptoki:subscribe(hsm).
    2> ok = cryptoki:unsubscribe(hsm, Ref).").
-spec subscribe(hsm()) -> {ok, reference()} | error().
subscribe(Hsm) -> call(subscribe, [Hsm]).

?DOC("Ends what `subscribe/1` began; no message of it is left or comes later.

    1> {ok, Ref} = cryptoki:subscribe(hsm).
    2> ok = cryptoki:unsubscribe(hsm, Ref).").
-spec unsubscribe(hsm(), reference()) -> ok | error().
unsubscribe(Hsm, Ref) -> call(unsubscribe, [Hsm, Ref]).

%%% Looking around

?DOC("The library: `manufacturer`, `description`, `version`, `cryptoki_version`, `interface` and
`interfaces`.

PKCS #11 v3.2, sections 5.4.3 and 5.4.5.

    1> {ok, #{cryptoki_version := {2, 40}}} = cryptoki:library_info(hsm).").
-spec library_info(hsm(), options()) -> {ok, map()} | error().
library_info(Hsm, Options) -> call(library_info, [Hsm, Options]).

?SAME_AS("library_info/2").
-spec library_info(hsm()) -> {ok, map()} | error().
library_info(Hsm) -> library_info(Hsm, #{}).

?DOC("All slots of a library, of an instance or by path, with what is in them.

Errors: `library_not_loaded`. PKCS #11 v3.2, sections 5.5.1 and 5.5.2.

    1> {ok, [_ | _]} = cryptoki:slots(hsm).
    2> {error, {library_not_loaded, _}} = cryptoki:slots(#{library => <<\"/no/such/library.so\">>}).").
-spec slots(hsm() | #{library := file:name_all()}, options()) -> {ok, [map()]} | error().
slots(HsmOrLibrary, Options) -> call(slots, [HsmOrLibrary, Options]).

?SAME_AS("slots/2").
-spec slots(hsm() | #{library := file:name_all()}) -> {ok, [map()]} | error().
slots(HsmOrLibrary) -> slots(HsmOrLibrary, #{}).

?DOC("The token: `label`, `serial`, `flags` by name, counts of sessions, lengths of PINs and sizes in
bytes.

PKCS #11 v3.2, section 5.5.3.

    1> {ok, #{label := <<\"payments\">>}} = cryptoki:token_info(hsm).").
-spec token_info(hsm(), options()) -> {ok, map()} | error().
token_info(Hsm, Options) -> call(token_info, [Hsm, Options]).

?SAME_AS("token_info/2").
-spec token_info(hsm()) -> {ok, map()} | error().
token_info(Hsm) -> token_info(Hsm, #{}).

?DOC("All mechanisms of the token; those without a name as numbers.

PKCS #11 v3.2, section 5.5.5.

    1> {ok, Mechanisms} = cryptoki:mechanisms(hsm).
    2> true = lists:member(aes_gcm, Mechanisms).").
-spec mechanisms(hsm(), options()) -> {ok, [atom() | non_neg_integer()]} | error().
mechanisms(Hsm, Options) -> call(mechanisms, [Hsm, Options]).

?SAME_AS("mechanisms/2").
-spec mechanisms(hsm()) -> {ok, [atom() | non_neg_integer()]} | error().
mechanisms(Hsm) -> mechanisms(Hsm, #{}).

?DOC("What the token does with a mechanism: `flags`, `min_key_size` and `max_key_size` in bits or
bytes, as the standard has it for the mechanism.

Errors: `mechanism_invalid`. PKCS #11 v3.2, section 5.5.6.

    1> {ok, #{flags := [_ | _]}} = cryptoki:mechanism_info(hsm, rsa_pkcs).").
-spec mechanism_info(hsm(), mechanism(), options()) -> {ok, map()} | error().
mechanism_info(Hsm, Mechanism, Options) -> call(mechanism_info, [Hsm, Mechanism, Options]).

?SAME_AS("mechanism_info/3").
-spec mechanism_info(hsm(), mechanism()) -> {ok, map()} | error().
mechanism_info(Hsm, Mechanism) -> mechanism_info(Hsm, Mechanism, #{}).

%%% Objects

?DOC("All objects that fit a selector, of any class unless it says; `#{}` fits all.

PKCS #11 v3.2, sections 5.7.7 to 5.7.9.

    1> {ok, [#{key_type := rsa, id := <<1>>}]} =
    ..     cryptoki:find(hsm, #{class => private_key, label => <<\"invoice\">>}).").
-spec find(hsm(), selector(), options()) -> {ok, [object()]} | error().
find(Hsm, Key, Options) -> call(find, [Hsm, Key, Options]).

?SAME_AS("find/3").
-spec find(hsm(), selector()) -> {ok, [object()]} | error().
find(Hsm, Key) -> find(Hsm, Key, #{}).

?DOC("The one object that fits a selector.

Errors: `key_not_found`, `key_ambiguous`. PKCS #11 v3.2, sections 5.7.7 to 5.7.9.

    1> {ok, #{label := <<\"invoice\">>}} = cryptoki:find_one(hsm, \"pkcs11:object=invoice;type=private\").").
-spec find_one(hsm(), selector(), options()) -> {ok, object()} | error().
find_one(Hsm, Key, Options) -> call(find_one, [Hsm, Key, Options]).

?SAME_AS("find_one/3").
-spec find_one(hsm(), selector()) -> {ok, object()} | error().
find_one(Hsm, Key) -> find_one(Hsm, Key, #{}).

?DOC("A lazy `find/3`, to be consumed with `fold/3`. Holds no session.

PKCS #11 v3.2, sections 5.7.7 to 5.7.9.

    1> Keys = cryptoki:stream(hsm, #{class => secret_key, token => true}).
    2> {ok, [<<\"archive\">>]} = cryptoki:fold(fun(#{label := Label}, Acc) -> [Label | Acc] end, [], Keys).").
-spec stream(hsm(), selector(), options()) -> stream(object()).
stream(Hsm, Key, Options) -> call(stream, [Hsm, Key, Options]).

?SAME_AS("stream/3").
-spec stream(hsm(), selector()) -> stream(object()).
stream(Hsm, Key) -> stream(Hsm, Key, #{}).

?DOC("Attributes of an object by name. One that cannot be read is `{error, Reason}` and spoils no
other.

Errors: `key_not_found`, `key_ambiguous`. PKCS #11 v3.2, section 5.7.5.

    1> {ok, #{id := <<3>>, value := {error, attribute_sensitive}}} =
    ..     cryptoki:attributes(hsm, #{class => secret_key, label => <<\"archive\">>}, [id, value]).").
-spec attributes(hsm(), selector(), [attribute()], options()) ->
    {ok, #{attribute() => term()}} | error().
attributes(Hsm, Key, Names, Options) -> call(attributes, [Hsm, Key, Names, Options]).

?SAME_AS("attributes/4").
-spec attributes(hsm(), selector(), [attribute()]) -> {ok, #{attribute() => term()}} | error().
attributes(Hsm, Key, Names) -> attributes(Hsm, Key, Names, #{}).

?DOC("About how many bytes of the token's memory an object takes.

Errors: `key_not_found`, `information_sensitive`. PKCS #11 v3.2, section 5.7.4.

    1> {ok, _} = cryptoki:size(hsm, #{class => public_key, label => <<\"invoice\">>}).").
-spec size(hsm(), selector(), options()) -> {ok, non_neg_integer() | unavailable} | error().
size(Hsm, Key, Options) -> call(size, [Hsm, Key, Options]).

?SAME_AS("size/3").
-spec size(hsm(), selector()) -> {ok, non_neg_integer() | unavailable} | error().
size(Hsm, Key) -> size(Hsm, Key, #{}).

?DOC("Changes attributes of an object.

Errors: `attribute_read_only`, `session_read_only`. PKCS #11 v3.2, section 5.7.6.

    1> {ok, Note} = cryptoki:create(hsm, #{class => data, label => <<\"a note\">>, value => <<\"hello\">>}).
    2> ok = cryptoki:update(hsm, Note, #{label => <<\"another\">>}).
    3> ok = cryptoki:destroy(hsm, Note).").
-spec update(hsm(), selector(), template(), options()) -> ok | error().
update(Hsm, Key, Template, Options) -> call(update, [Hsm, Key, Template, Options]).

?SAME_AS("update/4").
-spec update(hsm(), selector(), template()) -> ok | error().
update(Hsm, Key, Template) -> update(Hsm, Key, Template, #{}).

?DOC("Makes an object of a template: data, a certificate, a public key, a key whose bytes are known.

Errors: `template_incomplete`, `template_inconsistent`. PKCS #11 v3.2, section 5.7.1.

    1> {ok, Key} = cryptoki:create(hsm, #{class => secret_key, key_type => aes, value => <<0:128>>,
    ..     encrypt => true}).
    2> ok = cryptoki:destroy(hsm, Key).").
-spec create(hsm(), template(), options()) -> {ok, object()} | error().
create(Hsm, Template, Options) -> call(create, [Hsm, Template, Options]).

?SAME_AS("create/3").
-spec create(hsm(), template()) -> {ok, object()} | error().
create(Hsm, Template) -> create(Hsm, Template, #{}).

?DOC("Copies an object; the template says what is different in the copy.

Errors: `action_prohibited`, `template_inconsistent`. PKCS #11 v3.2, section 5.7.2.

    1> {ok, Copy} = cryptoki:copy(hsm, #{class => secret_key, label => <<\"archive\">>}, #{token => false}).
    2> ok = cryptoki:destroy(hsm, Copy).").
-spec copy(hsm(), selector(), template(), options()) -> {ok, object()} | error().
copy(Hsm, Key, Template, Options) -> call(copy, [Hsm, Key, Template, Options]).

?SAME_AS("copy/4").
-spec copy(hsm(), selector(), template()) -> {ok, object()} | error().
copy(Hsm, Key, Template) -> copy(Hsm, Key, Template, #{}).

?DOC("Destroys an object.

Errors: `key_not_found`, `key_ambiguous`, `action_prohibited`. PKCS #11 v3.2, section 5.7.3.

    1> {error, {key_not_found, _}} = cryptoki:destroy(hsm, #{label => <<\"no such thing\">>}).").
-spec destroy(hsm(), selector(), options()) -> ok | error().
destroy(Hsm, Key, Options) -> call(destroy, [Hsm, Key, Options]).

?SAME_AS("destroy/3").
-spec destroy(hsm(), selector()) -> ok | error().
destroy(Hsm, Key) -> destroy(Hsm, Key, #{}).

?DOC("A public key for OTP's `public_key`; of a private key the public half, which is proven.
Of ML-DSA and SLH-DSA it is the record of OTP 29, or, where there is none, a `SubjectPublicKeyInfo`.
`'Elixir.Cryptoki.X509':to_pem/1` makes PEM of any of them.

Errors: `key_not_found`, `key_ambiguous`, `unsupported`. PKCS #11 v3.2, sections 5.7.5 and 5.13.

    1> {ok, Public} = cryptoki:public_key(hsm, #{label => <<\"invoice\">>}).
    2> {ok, Signature} = cryptoki:sign(hsm, #{label => <<\"invoice\">>}, sha256_rsa_pkcs, <<\"text\">>).
    3> true = public_key:verify(<<\"text\">>, sha256, Signature, Public).").
-spec public_key(hsm(), selector(), options()) -> {ok, public_key:public_key() | tuple()} | error().
public_key(Hsm, Key, Options) -> call(public_key, [Hsm, Key, Options]).

?SAME_AS("public_key/3").
-spec public_key(hsm(), selector()) -> {ok, public_key:public_key() | tuple()} | error().
public_key(Hsm, Key) -> public_key(Hsm, Key, #{}).

?DOC("The DER of a certificate on the token; of an object that is a key, the one with its public key.

Errors: `key_not_found`, `key_ambiguous`, `unsupported`. PKCS #11 v3.2, sections 4.6 and 5.7.5.

    1> {error, {key_not_found, _}} = cryptoki:certificate(hsm, #{label => <<\"nobody\">>}).").
-spec certificate(hsm(), selector(), options()) -> {ok, public_key:der_encoded()} | error().
certificate(Hsm, Key, Options) -> call(certificate, [Hsm, Key, Options]).

?SAME_AS("certificate/3").
-spec certificate(hsm(), selector()) -> {ok, public_key:der_encoded()} | error().
certificate(Hsm, Key) -> certificate(Hsm, Key, #{}).

?DOC("Takes an X.509 certificate, DER or PEM, to the token, with the subject, issuer and serial number that others
find it by. The template is for what it does not say itself: `label`, `id`, `token => true`, without which it ends
with its session.

Errors: `invalid_argument` for what is no certificate, or for several. PKCS #11 v3.2, sections 4.6.3 and 5.7.1.

    1> {error, {invalid_argument, _}} = cryptoki:import_certificate(hsm, <<\"no certificate\">>, #{label => <<\"www\">>}).").
-spec import_certificate(hsm(), binary(), template(), options()) -> {ok, object()} | error().
import_certificate(Hsm, Certificate, Template, Options) ->
    call(import_certificate, [Hsm, Certificate, Template, Options]).

?SAME_AS("import_certificate/4").
-spec import_certificate(hsm(), binary(), template()) -> {ok, object()} | error().
import_certificate(Hsm, Certificate, Template) -> import_certificate(Hsm, Certificate, Template, #{}).

%%% Making keys

?DOC("Generates a secret key: sensitive and not extractable, and for what its mechanism suggests,
unless the template says otherwise. `value_len` is in bytes. Without `token => true` it ends
with its session.

Errors: `template_incomplete`, `key_size_range`. PKCS #11 v3.2, section 5.18.1.

    1> {ok, #{key_type := aes}} = cryptoki:generate_key(hsm, aes_key_gen, #{id => <<9>>, value_len => 32}).").
-spec generate_key(hsm(), mechanism(), template(), options()) -> {ok, object()} | error().
generate_key(Hsm, Mechanism, Template, Options) ->
    call(generate_key, [Hsm, Mechanism, Template, Options]).

?SAME_AS("generate_key/4").
-spec generate_key(hsm(), mechanism(), template()) -> {ok, object()} | error().
generate_key(Hsm, Mechanism, Template) -> generate_key(Hsm, Mechanism, Template, #{}).

?DOC("Generates a key pair, public and private. One template serves both halves; `public => #{...}`
and `private => #{...}` are for one half only.

Errors: `template_inconsistent`, `curve_not_supported`. PKCS #11 v3.2, section 5.18.2.

    1> {ok, {#{class := public_key}, #{class := private_key}}} =
    ..     cryptoki:generate_key_pair(hsm, ec_key_pair_gen, #{label => <<\"k\">>, curve => secp256r1}).").
-spec generate_key_pair(hsm(), mechanism(), template(), options()) ->
    {ok, {object(), object()}} | error().
generate_key_pair(Hsm, Mechanism, Template, Options) ->
    call(generate_key_pair, [Hsm, Mechanism, Template, Options]).

?SAME_AS("generate_key_pair/4").
-spec generate_key_pair(hsm(), mechanism(), template()) -> {ok, {object(), object()}} | error().
generate_key_pair(Hsm, Mechanism, Template) -> generate_key_pair(Hsm, Mechanism, Template, #{}).

?DOC("Takes a key that is somewhere else into the token, proves that it is there, and stores the public key of
a private one beside it unless `public => false` says not to. It is the file of a key (PKCS #8, also encrypted, with the
option `password`, PKCS #1, SEC 1, a public key, OpenSSH's own form, a JWK), a record of `public_key`, or
`{aes | hmac | generic_secret, Bytes}`, or `{pkcs12, Der}` with the option `password`, of which the answer is
`{ok, {Key, Certificates}}`. With the option `how => unwrap` it is wrapped for a key that the token makes for that;
`how => auto`, the default, does so where the token takes no value.

Errors: `invalid_argument`, `unsupported`, `module_misbehaved`. PKCS #11 v3.2, sections 5.7.1, 5.13 and 5.18.

    1> Legacy = public_key:generate_key({namedCurve, secp256r1}).
    2> {ok, #{class := private_key}} = cryptoki:import_key(hsm, Legacy, #{label => <<\"legacy\">>}).").
-spec import_key(hsm(), importable(), template(), options()) ->
    {ok, object() | {object(), [binary()]}} | error().
import_key(Hsm, Given, Template, Options) -> call(import_key, [Hsm, Given, Template, Options]).

?SAME_AS("import_key/4").
-spec import_key(hsm(), importable(), template()) ->
    {ok, object() | {object(), [binary()]}} | error().
import_key(Hsm, Given, Template) -> import_key(Hsm, Given, Template, #{}).

?DOC("The check value of a secret key: three bytes that the token keeps or computes.

Errors: `key_not_found`, `key_ambiguous`, `unsupported`. PKCS #11 v3.2, section 4.10.2.

    1> {ok, <<_:24>>} = cryptoki:check_value(hsm, #{label => <<\"archive\">>}).").
-spec check_value(hsm(), selector(), options()) -> {ok, binary()} | error().
check_value(Hsm, Key, Options) -> call(check_value, [Hsm, Key, Options]).

?SAME_AS("check_value/3").
-spec check_value(hsm(), selector()) -> {ok, binary()} | error().
check_value(Hsm, Key) -> check_value(Hsm, Key, #{}).

%%% Signatures

?DOC("Signs data, or computes a MAC. ECDSA answers r and s one after the other; `#{format => der}`
gives what X.509 and `public_key` want.

Errors: `key_not_found`, `key_ambiguous`, `key_function_not_permitted`, `mechanism_invalid`,
`data_len_range`. PKCS #11 v3.2, section 5.13.

    1> {ok, Signature} = cryptoki:sign(hsm, #{label => <<\"contract\">>}, ecdsa_sha256, <<\"text\">>).
    2> 64 = byte_size(Signature).").
-spec sign(hsm(), selector(), mechanism(), data(), options()) -> {ok, binary()} | error().
sign(Hsm, Key, Mechanism, Data, Options) -> call(sign, [Hsm, Key, Mechanism, Data, Options]).

?SAME_AS("sign/5").
-spec sign(hsm(), selector(), mechanism(), data()) -> {ok, binary()} | error().
sign(Hsm, Key, Mechanism, Data) -> sign(Hsm, Key, Mechanism, Data, #{}).

?DOC("Verifies a signature or a MAC.

Errors: `signature_invalid`, `signature_len_range`, and those of `sign/5`. PKCS #11 v3.2,
section 5.15.

    1> {error, {signature_invalid, _}} =
    ..     cryptoki:verify(hsm, #{label => <<\"contract\">>}, ecdsa_sha256, <<\"text\">>, <<0:512>>).").
-spec verify(hsm(), selector(), mechanism(), data(), iodata(), options()) -> ok | error().
verify(Hsm, Key, Mechanism, Data, Signature, Options) ->
    call(verify, [Hsm, Key, Mechanism, Data, Signature, Options]).

?SAME_AS("verify/6").
-spec verify(hsm(), selector(), mechanism(), data(), iodata()) -> ok | error().
verify(Hsm, Key, Mechanism, Data, Signature) -> verify(Hsm, Key, Mechanism, Data, Signature, #{}).

?DOC("Whether a signature is right: `verify/6` as a question (in Elixir `valid?`). Raises `{Reason,
Info}` for anything but yes or no.

    1> false = cryptoki:is_valid(hsm, #{label => <<\"contract\">>}, ecdsa_sha256, <<\"text\">>, <<0:512>>).").
-spec is_valid(hsm(), selector(), mechanism(), data(), iodata(), options()) -> boolean().
is_valid(Hsm, Key, Mechanism, Data, Signature, Options) ->
    call('valid?', is_valid, [Hsm, Key, Mechanism, Data, Signature, Options]).

?SAME_AS("is_valid/6").
-spec is_valid(hsm(), selector(), mechanism(), data(), iodata()) -> boolean().
is_valid(Hsm, Key, Mechanism, Data, Signature) -> is_valid(Hsm, Key, Mechanism, Data, Signature, #{}).

?DOC("Signs data that can be recovered from the signature (RSA).

Errors: `function_not_supported`, `data_len_range`. PKCS #11 v3.2, section 5.13.

    1> {error, {function_not_supported, _}} =
    ..     cryptoki:sign_recover(hsm, #{label => <<\"invoice\">>}, rsa_pkcs, <<\"text\">>).").
-spec sign_recover(hsm(), selector(), mechanism(), data(), options()) -> {ok, binary()} | error().
sign_recover(Hsm, Key, Mechanism, Data, Options) ->
    call(sign_recover, [Hsm, Key, Mechanism, Data, Options]).

?SAME_AS("sign_recover/5").
-spec sign_recover(hsm(), selector(), mechanism(), data()) -> {ok, binary()} | error().
sign_recover(Hsm, Key, Mechanism, Data) -> sign_recover(Hsm, Key, Mechanism, Data, #{}).

?DOC("Verifies a signature of `sign_recover/5` and answers the data in it.

Errors: `signature_invalid`, `function_not_supported`. PKCS #11 v3.2, section 5.15.

    1> {error, {function_not_supported, _}} =
    ..     cryptoki:verify_recover(hsm, #{label => <<\"invoice\">>}, rsa_pkcs, <<0:2048>>).").
-spec verify_recover(hsm(), selector(), mechanism(), iodata(), options()) ->
    {ok, binary()} | error().
verify_recover(Hsm, Key, Mechanism, Signature, Options) ->
    call(verify_recover, [Hsm, Key, Mechanism, Signature, Options]).

?SAME_AS("verify_recover/5").
-spec verify_recover(hsm(), selector(), mechanism(), iodata()) -> {ok, binary()} | error().
verify_recover(Hsm, Key, Mechanism, Signature) -> verify_recover(Hsm, Key, Mechanism, Signature, #{}).

%%% Encryption

?DOC("Encrypts data. AES-GCM and AES-CCM answer the ciphertext with the tag behind it.

With `iv => token` the token chooses the IV, and the answer is `{ok, {Iv, Ciphertext}}`; one that does not is
`unsupported`, and so is one that replaces an IV that was given.

Errors: `key_not_found`, `key_ambiguous`, `data_len_range`. PKCS #11 v3.2, sections 5.8 and
5.17.

    1> {ok, Iv} = cryptoki:random(hsm, 12).
    2> Gcm = {aes_gcm, #{iv => Iv, aad => <<\"header\">>, tag_bits => 128}}.
    3> {ok, Secret} = cryptoki:encrypt(hsm, #{label => <<\"archive\">>}, Gcm, <<\"text\">>).
    4> {ok, <<\"text\">>} = cryptoki:decrypt(hsm, #{label => <<\"archive\">>}, Gcm, Secret).").
-spec encrypt(hsm(), selector(), mechanism(), data(), options()) ->
    {ok, binary() | {binary(), binary()}} | error().
encrypt(Hsm, Key, Mechanism, Data, Options) -> call(encrypt, [Hsm, Key, Mechanism, Data, Options]).

?SAME_AS("encrypt/5").
-spec encrypt(hsm(), selector(), mechanism(), data()) ->
    {ok, binary() | {binary(), binary()}} | error().
encrypt(Hsm, Key, Mechanism, Data) -> encrypt(Hsm, Key, Mechanism, Data, #{}).

?DOC("Decrypts data.

Errors: `encrypted_data_invalid`, `encrypted_data_len_range`, `aead_decrypt_failed`. PKCS #11
v3.2, sections 5.10 and 5.17.

    1> Cbc = {aes_cbc_pad, #{iv => <<0:128>>}}.
    2> {ok, Secret} = cryptoki:encrypt(hsm, #{label => <<\"archive\">>}, Cbc, [<<\"some \">>, \"text\"]).
    3> {ok, <<\"some text\">>} = cryptoki:decrypt(hsm, #{label => <<\"archive\">>}, Cbc, Secret).").
-spec decrypt(hsm(), selector(), mechanism(), data(), options()) ->
    {ok, binary() | {binary(), binary()}} | error().
decrypt(Hsm, Key, Mechanism, Data, Options) -> call(decrypt, [Hsm, Key, Mechanism, Data, Options]).

?SAME_AS("decrypt/5").
-spec decrypt(hsm(), selector(), mechanism(), data()) ->
    {ok, binary() | {binary(), binary()}} | error().
decrypt(Hsm, Key, Mechanism, Data) -> decrypt(Hsm, Key, Mechanism, Data, #{}).

?DOC("Encrypts chunks lazily, to be consumed with `fold/3`; the process that does holds one session
meanwhile.

PKCS #11 v3.2, section 5.8.

    1> Cbc = {aes_cbc_pad, #{iv => <<0:128>>}}.
    2> Secret = cryptoki:encrypt_stream(hsm, #{label => <<\"archive\">>}, Cbc, [<<\"some \">>, <<\"text\">>]).
    3> Plain = cryptoki:decrypt_stream(hsm, #{label => <<\"archive\">>}, Cbc, Secret).
    4> {ok, <<\"some text\">>} = cryptoki:fold(fun(Part, Acc) -> <<Acc/binary, Part/binary>> end, <<>>, Plain).").
-spec encrypt_stream(hsm(), selector(), mechanism(), chunks(), options()) -> stream(binary()).
encrypt_stream(Hsm, Key, Mechanism, Chunks, Options) ->
    call(encrypt_stream, [Hsm, Key, Mechanism, Chunks, Options]).

?SAME_AS("encrypt_stream/5").
-spec encrypt_stream(hsm(), selector(), mechanism(), chunks()) -> stream(binary()).
encrypt_stream(Hsm, Key, Mechanism, Chunks) -> encrypt_stream(Hsm, Key, Mechanism, Chunks, #{}).

?DOC("Decrypts chunks lazily, as `encrypt_stream/5` encrypts; an example is there. Modes without a tag
give plaintext that nobody has authenticated.

PKCS #11 v3.2, section 5.10.

    1> Plain = cryptoki:decrypt_stream(hsm, #{label => <<\"archive\">>}, {aes_cbc_pad, #{iv => <<0:128>>}}, [<<0:64>>]).
    2> {error, {encrypted_data_len_range, _}} = cryptoki:fold(fun(_Part, Acc) -> Acc end, [], Plain).").
-spec decrypt_stream(hsm(), selector(), mechanism(), chunks(), options()) -> stream(binary()).
decrypt_stream(Hsm, Key, Mechanism, Chunks, Options) ->
    call(decrypt_stream, [Hsm, Key, Mechanism, Chunks, Options]).

?SAME_AS("decrypt_stream/5").
-spec decrypt_stream(hsm(), selector(), mechanism(), chunks()) -> stream(binary()).
decrypt_stream(Hsm, Key, Mechanism, Chunks) -> decrypt_stream(Hsm, Key, Mechanism, Chunks, #{}).

%%% Digests and random numbers

?DOC("Computes a digest on the token.

Errors: `mechanism_invalid`. PKCS #11 v3.2, section 5.12.

    1> {ok, Digest} = cryptoki:digest(hsm, sha256, [<<\"a\">>, \"bc\"]).
    2> true = Digest =:= crypto:hash(sha256, <<\"abc\">>).").
-spec digest(hsm(), mechanism(), data(), options()) -> {ok, binary()} | error().
digest(Hsm, Mechanism, Data, Options) -> call(digest, [Hsm, Mechanism, Data, Options]).

?SAME_AS("digest/4").
-spec digest(hsm(), mechanism(), data()) -> {ok, binary()} | error().
digest(Hsm, Mechanism, Data) -> digest(Hsm, Mechanism, Data, #{}).

?DOC("Random bytes of the token, as many as asked for.

Errors: `random_no_rng`. PKCS #11 v3.2, section 5.19.

    1> {ok, <<_:32/binary>>} = cryptoki:random(hsm, 32).").
-spec random(hsm(), non_neg_integer(), options()) -> {ok, binary()} | error().
random(Hsm, Count, Options) -> call(random, [Hsm, Count, Options]).

?SAME_AS("random/3").
-spec random(hsm(), non_neg_integer()) -> {ok, binary()} | error().
random(Hsm, Count) -> random(Hsm, Count, #{}).

?DOC("Mixes bytes into the token's random number generator.

Errors: `random_seed_not_supported`. PKCS #11 v3.2, section 5.19.

    1> ok = cryptoki:seed_random(hsm, \"what the weather is like\").").
-spec seed_random(hsm(), iodata(), options()) -> ok | error().
seed_random(Hsm, Seed, Options) -> call(seed_random, [Hsm, Seed, Options]).

?SAME_AS("seed_random/3").
-spec seed_random(hsm(), iodata()) -> ok | error().
seed_random(Hsm, Seed) -> seed_random(Hsm, Seed, #{}).

%%% Keys under keys

?DOC("Wraps a private or secret key with another key.

Errors: `key_unextractable`, `key_not_wrappable`. PKCS #11 v3.2, section 5.18.

    1> {ok, Kek} = cryptoki:generate_key(hsm, aes_key_gen, #{value_len => 32, wrap => true, unwrap => true}).
    2> {ok, Key} = cryptoki:generate_key(hsm, aes_key_gen, #{value_len => 16, extractable => true}).
    3> {ok, Blob} = cryptoki:wrap_key(hsm, Kek, aes_key_wrap, Key).
    4> {ok, #{key_type := aes}} = cryptoki:unwrap_key(hsm, Kek, aes_key_wrap, Blob,
    ..     #{class => secret_key, key_type => aes}).").
-spec wrap_key(hsm(), selector(), mechanism(), selector(), options()) ->
    {ok, binary() | {IV :: binary(), binary()}} | error().
wrap_key(Hsm, WrappingKey, Mechanism, Key, Options) ->
    call(wrap_key, [Hsm, WrappingKey, Mechanism, Key, Options]).

?SAME_AS("wrap_key/5").
-spec wrap_key(hsm(), selector(), mechanism(), selector()) ->
    {ok, binary() | {IV :: binary(), binary()}} | error().
wrap_key(Hsm, WrappingKey, Mechanism, Key) -> wrap_key(Hsm, WrappingKey, Mechanism, Key, #{}).

?DOC("Makes a key of what `wrap_key/5` gave; an example is there. The template says what it is and
what it may do.

Errors: `wrapped_key_invalid`, `wrapped_key_len_range`, `template_incomplete`. PKCS #11 v3.2,
section 5.18.

    1> {error, {key_not_found, _}} = cryptoki:unwrap_key(hsm, #{label => <<\"no kek\">>}, aes_key_wrap, <<0:192>>,
    ..     #{class => secret_key, key_type => aes}).").
-spec unwrap_key(hsm(), selector(), mechanism(), iodata(), template(), options()) ->
    {ok, object()} | error().
unwrap_key(Hsm, UnwrappingKey, Mechanism, Blob, Template, Options) ->
    call(unwrap_key, [Hsm, UnwrappingKey, Mechanism, Blob, Template, Options]).

?SAME_AS("unwrap_key/6").
-spec unwrap_key(hsm(), selector(), mechanism(), iodata(), template()) -> {ok, object()} | error().
unwrap_key(Hsm, UnwrappingKey, Mechanism, Blob, Template) -> unwrap_key(Hsm, UnwrappingKey, Mechanism, Blob, Template, #{}).

?DOC("Derives a key from another: a key agreement, a key derivation function.

Errors: `mechanism_param_invalid`, `template_inconsistent`. PKCS #11 v3.2, section 5.18.5.

    1> {ok, {Public, Private}} =
    ..     cryptoki:generate_key_pair(hsm, ec_key_pair_gen, #{label => <<\"agreement\">>, curve => secp256r1, derive => true}).
    2> {ok, {{'ECPoint', Point}, _}} = cryptoki:public_key(hsm, Public).
    3> {ok, #{key_type := aes}} =
    ..     cryptoki:derive_key(hsm, Private, {ecdh1_derive, #{public => Point, kdf => null}},
    ..         #{class => secret_key, key_type => aes, value_len => 32}).").
-spec derive_key(hsm(), selector(), mechanism(), template(), options()) -> {ok, object()} | error().
derive_key(Hsm, BaseKey, Mechanism, Template, Options) ->
    call(derive_key, [Hsm, BaseKey, Mechanism, Template, Options]).

?SAME_AS("derive_key/5").
-spec derive_key(hsm(), selector(), mechanism(), template()) -> {ok, object()} | error().
derive_key(Hsm, BaseKey, Mechanism, Template) -> derive_key(Hsm, BaseKey, Mechanism, Template, #{}).

?DOC("Makes a secret key and encapsulates it for the owner of a public key (ML-KEM): the ciphertext
and the key.

Errors: `function_not_supported`, `mechanism_invalid`, `key_type_inconsistent`. PKCS #11 v3.2, section 5.18.

    1> {error, {key_type_inconsistent, _}} =
    ..     cryptoki:encapsulate_key(hsm, #{label => <<\"invoice\">>}, ml_kem, #{class => secret_key, key_type => aes}).").
-spec encapsulate_key(hsm(), selector(), mechanism(), template(), options()) ->
    {ok, {binary(), object()}} | error().
encapsulate_key(Hsm, PublicKey, Mechanism, Template, Options) ->
    call(encapsulate_key, [Hsm, PublicKey, Mechanism, Template, Options]).

?SAME_AS("encapsulate_key/5").
-spec encapsulate_key(hsm(), selector(), mechanism(), template()) ->
    {ok, {binary(), object()}} | error().
encapsulate_key(Hsm, PublicKey, Mechanism, Template) -> encapsulate_key(Hsm, PublicKey, Mechanism, Template, #{}).

?DOC("The secret key in a ciphertext of `encapsulate_key/5`.

Errors: `function_not_supported`, `wrapped_key_len_range`, `key_type_inconsistent`. PKCS #11 v3.2, section 5.18.

    1> {error, {key_type_inconsistent, _}} =
    ..     cryptoki:decapsulate_key(hsm, #{label => <<\"invoice\">>}, ml_kem, <<>>, #{class => secret_key, key_type => aes}).").
-spec decapsulate_key(hsm(), selector(), mechanism(), iodata(), template(), options()) ->
    {ok, object()} | error().
decapsulate_key(Hsm, PrivateKey, Mechanism, Blob, Template, Options) ->
    call(decapsulate_key, [Hsm, PrivateKey, Mechanism, Blob, Template, Options]).

?SAME_AS("decapsulate_key/6").
-spec decapsulate_key(hsm(), selector(), mechanism(), iodata(), template()) ->
    {ok, object()} | error().
decapsulate_key(Hsm, PrivateKey, Mechanism, Blob, Template) -> decapsulate_key(Hsm, PrivateKey, Mechanism, Blob, Template, #{}).

%%% Sessions and multi-part operations

?DOC("Runs a function with a session that serves this process only, until the function ends, and
answers what it answers. `m:cryptoki_operation` goes on from `start/5`.

    1> {ok, Digest} = cryptoki:with_session(hsm, fun(Session) ->
    ..     {ok, Op} = cryptoki:start(Session, digest, sha256),
    ..     [ok = cryptoki_operation:update(Op, Chunk) || Chunk <- [<<\"a\">>, <<\"bc\">>]],
    ..     cryptoki_operation:finish(Op)
    .. end).
    2> true = Digest =:= crypto:hash(sha256, <<\"abc\">>).").
-spec with_session(hsm(), fun((session()) -> Result), #{timeout => timeout()}) -> Result | error().
with_session(Hsm, Fun, Options) when is_function(Fun, 1) -> call(with_session, [Hsm, Fun, Options]).

?SAME_AS("with_session/3").
-spec with_session(hsm(), fun((session()) -> Result)) -> Result | error().
with_session(Hsm, Fun) -> with_session(Hsm, Fun, #{}).

?DOC("Begins a multi-part operation on a session of `with_session/3`: `sign`, `verify`, `encrypt`,
`decrypt`, `digest`, or one on messages. `m:cryptoki_operation` goes on from there.

Errors: those of the verb, `operation_active`. PKCS #11 v3.2, sections 5.8 to 5.16.

    1> {ok, Signature} = cryptoki:with_session(hsm, fun(Session) ->
    ..     {ok, Op} = cryptoki:start(Session, sign, #{label => <<\"invoice\">>}, sha256_rsa_pkcs),
    ..     ok = cryptoki_operation:update(Op, <<\"text\">>),
    ..     cryptoki_operation:finish(Op)
    .. end).
    2> ok = cryptoki:verify(hsm, #{label => <<\"invoice\">>}, sha256_rsa_pkcs, <<\"text\">>, Signature).").
-spec start(session(), kind(), selector() | nil, mechanism(), options()) -> {ok, operation()} | error().
start(Session, Kind, Key, Mechanism, Options) ->
    call(start, [Session, Kind, Key, Mechanism, Options]).

?SAME_AS("start/5").
-spec start(session(), kind(), selector() | nil, mechanism()) -> {ok, operation()} | error().
start(Session, Kind, Key, Mechanism) -> start(Session, Kind, Key, Mechanism, #{}).

?SAME_AS("start/5").
-spec start(session(), digest, mechanism()) -> {ok, operation()} | error().
start(Session, digest, Mechanism) -> start(Session, digest, nil, Mechanism, #{}).

?DOC("The session that a session of `with_session/3` is, or one of an instance's: `slot`, `state`,
`flags` and the vendor's `device_error`.

PKCS #11 v3.2, section 5.6.4.

    1> {ok, #{state := rw_user_functions}} = cryptoki:session_info(hsm).").
-spec session_info(hsm(), options()) -> {ok, map()} | error().
session_info(Hsm, Options) -> call(session_info, [Hsm, Options]).

?SAME_AS("session_info/2").
-spec session_info(hsm()) -> {ok, map()} | error().
session_info(Hsm) -> session_info(Hsm, #{}).

?DOC("Whether the last operation of a session was one that a validation of the token covers: bits of
the `validation_flag` of its objects of class `validation`.

Errors: `function_not_supported` before 3.2. PKCS #11 v3.2, section 5.6.11.

    1> {error, {function_not_supported, _}} = cryptoki:validation_flags(hsm).").
-spec validation_flags(hsm(), options()) -> {ok, non_neg_integer()} | error().
validation_flags(Hsm, Options) -> call(validation_flags, [Hsm, Options]).

?SAME_AS("validation_flags/2").
-spec validation_flags(hsm()) -> {ok, non_neg_integer()} | error().
validation_flags(Hsm) -> validation_flags(Hsm, #{}).

%%% What Elixir has in its language

?DOC("
Consumes what `stream/2` or `encrypt_stream/4` gave, element by element.

    1> Keys = cryptoki:stream(hsm, #{}).
    2> {ok, Count} = cryptoki:fold(fun(_Key, N) -> N + 1 end, 0, Keys).
    3> true = Count > 0.
").
-spec fold(fun((Element, Acc) -> Acc), Acc, stream(Element)) -> {ok, Acc} | error().
fold(Fun, Acc, Stream) when is_function(Fun, 2) -> 'Elixir.Cryptoki.Erlang':fold(Fun, Acc, Stream).

?DOC("
A sentence that a person can act on, of the reason of an error or of `{error, Reason}`.

    1> {error, Reason} = cryptoki:mechanism_info(hsm, 16#80000001).
    2> <<\"C_GetMechanismInfo answered CKR_MECHANISM_INVALID: \", _/binary>> = cryptoki:format_error(Reason).
").
-spec format_error(error_reason() | error() | map() | atom()) -> binary().
format_error(Reason) -> 'Elixir.Cryptoki.Erlang':message(Reason).

?DOC("
What is wrong with the arguments of a call that raised, for the shell and other printers of
exceptions (EEP 54).

    1> try cryptoki:sign(hsm, #{lable => <<\"invoice\">>}, sha256_rsa_pkcs, <<>>)
    ..  catch error:badarg:Stack -> #{2 := Text} = cryptoki:format_error(badarg, Stack) end.
    2> Text = <<\"there is no attribute :lable; did you mean :label?\">>.
").
-spec format_error(term(), erlang:stacktrace()) ->
    #{pos_integer() | general | reason => unicode:chardata()}.
format_error(_Reason, [{_Module, _Function, _Arguments, Info} | _]) ->
    maps:get(cause, proplists:get_value(error_info, Info, #{}), #{}).

call(Function, Arguments) -> call(Function, Function, Arguments).

call(Function, Name, Arguments) ->
    'Elixir.Cryptoki.Erlang':call('Elixir.Cryptoki', Function, {?MODULE, Name}, Arguments).

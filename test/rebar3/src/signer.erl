%% An application that signs. HSM_URI says with which token: a PKCS #11 URI with module-path and
%% pin-source.
-module(signer).
-behaviour(application).
-behaviour(supervisor).

-export([sign/1]).
-export([start/2, stop/1, init/1]).

-spec sign(iodata()) -> {ok, binary()} | cryptoki:error().
sign(Data) ->
    cryptoki:sign(hsm, #{label => <<"signer">>}, ecdsa_sha256, Data, #{format => der}).

start(_Type, _Arguments) ->
    supervisor:start_link({local, ?MODULE}, ?MODULE, []).

stop(_State) ->
    ok.

init([]) ->
    {ok, {#{}, [cryptoki:child_spec(#{name => hsm, uri => os:getenv("HSM_URI")})]}}.

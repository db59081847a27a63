defmodule Cryptoki do
  alias Cryptoki.{
    Attribute,
    CheckValue,
    Ciphers,
    Error,
    HSM,
    Import,
    Information,
    Instance,
    Key,
    KeyTransport,
    Lazy
  }

  alias Cryptoki.{
    Mechanism,
    Objects,
    Operation,
    Operations,
    Options,
    Session,
    Subscriptions,
    Unlock
  }

  @moduledoc """
  Keys in an HSM, smart card, TPM or software token, through the vendor's PKCS #11 library.

      children = [
        {Cryptoki,
         name: MyApp.HSM,
         library: "/usr/lib/softhsm/libsofthsm2.so",
         token: [label: "payments"],
         pin: {:file, "/run/secrets/pin"},
         sessions: 8}
      ]

      {:ok, signature} = Cryptoki.sign(MyApp.HSM, [label: "invoice"], :sha256_rsa_pkcs, data)

  ## What functions take

    * `hsm` is an **instance**, by its name or pid, or the session that `with_session/3` gives; `{name, node}`
      is one of another node: `guides/nodes.md`. A `Cryptoki.Group` is several under one name.
    * A **key** is named by a selector: attributes (`[label: "invoice", id: <<1>>]`), a PKCS #11 URI
      (`"pkcs11:object=invoice;type=private"`) or a `Cryptoki.Key`. A selector without a class gets
      those the verb can use: `sign/5` looks for a private or a secret key. None is
      `:key_not_found`, more than one `:key_ambiguous`.
    * A **mechanism** is an atom, `{atom, arguments}` or `{atom_or_number, binary}`:
      `Cryptoki.Mechanism`.
    * A **template** is a keyword list of attributes: `Cryptoki.Attribute`.
    * **Data** is iodata, or `{:stream, enumerable}` of iodata: then the operation runs piece by
      piece on one session, with no more than 64 KiB of the data in memory.

  A name of the standard is itself in lower case without its prefix: `CKM_AES_GCM` is `:aes_gcm`.

  ## What functions answer

  `:ok`, `{:ok, value}` or `{:error, %Cryptoki.Error{}}`; the twins with `!` answer the value or
  raise the error. A mistake in the call itself, such as a name that does not exist, raises
  `ArgumentError` before anything is sent. Besides the errors a function names, each can answer
  `:timeout`, `:busy`, `:shutdown`, `:token_absent`, `:locked` and what the token has to say:
  `Cryptoki.Error`. A call that may have been executed is never repeated, and its error has
  `executed: :maybe`.

  ## Options of a call

  #{Options.docs([:timeout, :metadata, :pin, :format])}

  `pin:` is for operations with a key, `format:` for `sign/5` and `verify/6`. Of a multi-part
  operation or a stream, `timeout:` counts for each step.

  ## Functions by topic

    * Instances: `start_link/1`, `child_spec/1`, `stop/1`, `status/1`, `unlock/3`, `subscribe/1`,
      `unsubscribe/2`
    * Looking around: `library_info/2`, `slots/2`, `token_info/2`, `mechanisms/2`, `mechanism_info/3`
    * Objects: `find/3`, `find_one/3`, `stream/3`, `attributes/4`, `size/3`, `update/4`, `create/3`, `copy/4`,
      `destroy/3`, `public_key/3`, `check_value/3`, `certificate/3`, `import_certificate/4`
    * Making keys: `generate_key/4`, `generate_key_pair/4`, `import_key/4`
    * Signatures: `sign/5`, `verify/6`, `valid?/6`, `sign_recover/5`, `verify_recover/5`
    * Encryption: `encrypt/5`, `decrypt/5`, `encrypt_stream/5`, `decrypt_stream/5`
    * Digests and random numbers: `digest/4`, `random/3`, `seed_random/3`
    * Keys under keys: `wrap_key/5`, `unwrap_key/6`, `derive_key/5`, `encapsulate_key/5`, `decapsulate_key/6`
    * Sessions and multi-part operations: `with_session/3`, `start/3`, `start/5`, `session_info/2`,
      `validation_flags/2`, then `Cryptoki.Operation`

  Certificates, requests and revocation lists are in `Cryptoki.X509`, signed files in `Cryptoki.CMS` and
  `Cryptoki.SSH`, time stamps in `Cryptoki.Timestamp`, keys for other tokens in `Cryptoki.Transfer`, data under a key of its own in `Cryptoki.Envelope`, JSON in `Cryptoki.JWS` and `Cryptoki.JWK`, TLS in `Cryptoki.SSL`, tokens in
  `Cryptoki.Token`, tables for the shell in `Cryptoki.IEx`, tokens for tests in `Cryptoki.Testing`.
  """

  import Cryptoki.Bang, only: [bang: 1]
  import Cryptoki.HSM, only: [at: 2]

  @typedoc "An instance, on this node or another, or a session of one."
  @type hsm :: atom | pid | {atom, node} | {:global, term} | {:via, module, term} | Session.t()

  @typedoc "A selector: attributes, a PKCS #11 URI (as Elixir has text, or as Erlang has), or a key."
  @type key ::
          keyword
          | %{(atom | non_neg_integer) => term}
          | Cryptoki.URI.t()
          | Key.t()
          | String.t()
          | charlist
          | IO.chardata()

  @type mechanism :: Mechanism.spec()
  @type template :: Attribute.template()
  @type data :: iodata | {:stream, Enumerable.t()}
  @type opts :: [call_option]

  @typedoc "An option of `start_link/1`, which says what each means."
  @type start_option :: unquote(Options.type(:start))

  @typedoc "An option of a call; each function says which it takes."
  @type call_option :: unquote(Options.type(:call))

  @typedoc """
  How a PIN may be given.

    * a function without arguments, or `{module, function, arguments}`, that returns the PIN or
      `{:ok, pin}`
    * `{:env, name}`: the environment variable of that name
    * `{:file, path}`: the first line of the file, without its line end
    * `:protected_path`: the token's own keypad (protected authentication path)
    * a string, as binary or charlist, for `iex`
    * `nil`: no login
  """
  @type pin ::
          (() -> String.t() | charlist | {:ok, String.t() | charlist})
          | {module, atom, [term]}
          | {:env, String.t()}
          | {:file, Path.t()}
          | :protected_path
          | String.t()
          | charlist
          | nil

  @type error :: {:error, Error.t()}

  @typedoc "What some mechanisms give in the place of one key; `Cryptoki.Mechanism` says which."
  @type beside ::
          %{atom => Key.t() | binary | nil}
          | [Key.t()]
          | {Key.t(), binary | {byte, byte}}
          | binary

  @type kind :: Operation.kind()

  ## Instances

  @doc """
  Starts an instance: finds the token, logs in, opens the sessions.

  #{Options.docs()}

  Returns when the first attempt to reach the token is over, or `timeout:` is. It need not have
  succeeded: without the token the instance is `:absent` and connects by itself when it comes; after
  a login that the token refused, or may have, it is `:locked` until `unlock/3`. `status/1` tells.

  Errors: `:library_not_loaded` when the library is missing, is no PKCS #11 library or cannot be
  initialised. A wrong option raises `ArgumentError`. PKCS #11 v3.2, sections 5.4 to 5.6.

      {:ok, hsm} =
        Cryptoki.start_link(
          library: "/usr/lib/softhsm/libsofthsm2.so",
          token: "pkcs11:token=payments",
          pin: {:env, "HSM_PIN"}
        )

      {:ok, %{state: :ready}} = Cryptoki.status(hsm)
  """
  @spec start_link([start_option] | map) :: {:ok, pid} | {:error, Error.t() | term}
  def start_link(opts), do: opts |> Options.start!() |> Instance.start_link()

  @doc """
  The child of a supervisor. The options are checked here already, and a PIN given as a string is
  wrapped so that no supervisor report shows it.

      iex> Cryptoki.child_spec(name: MyApp.HSM, library: "/opt/hsm.so", token: [slot: 3]).id
      MyApp.HSM
  """
  @spec child_spec([start_option] | map) :: Supervisor.child_spec()
  def child_spec(opts) do
    options = Options.start!(opts)

    %{
      id: options.name || __MODULE__,
      start: {__MODULE__, :start_link, [options]},
      type: :supervisor,
      shutdown: :infinity
    }
  end

  @doc """
  Stops an instance: new calls and those in the queue get `:shutdown`, those that run are waited for,
  the sessions are closed and the library is given back. `:ok` also when it does not run. An
  instance of a supervisor is stopped by its supervisor.

  PKCS #11 v3.2, sections 5.6.2 (C_CloseSession) and 5.4.2 (C_Finalize).

      iex> Cryptoki.stop(MyApp.Other)
      :ok
  """
  @spec stop(hsm) :: :ok | error
  def stop(hsm), do: at(hsm, Information.stop(hsm))

  @typedoc "What `status/1` answers."
  @type status :: %{
          state: :ready | :absent | :locked,
          health: :ok | :degraded | :failing | :unresponsive | :down,
          reason: Error.t() | nil,
          token: %{slot: non_neg_integer, label: String.t(), serial: String.t()} | nil,
          login: :accepted | :shared | :not_wanted | :none | nil,
          sessions: %{
            wanted: pos_integer,
            open: non_neg_integer,
            busy: non_neg_integer,
            overdue: non_neg_integer
          },
          queue: non_neg_integer,
          oldest_call: %{function: atom, milliseconds: non_neg_integer} | nil,
          epoch: non_neg_integer
        }

  @doc """
  What is the matter with the HSM: answers at once, whatever the token does.

    * `:state` is `:ready`, `:absent` or `:locked`: whether calls are taken
    * `:health` says whether that goes well. `:ok`: all sessions serve. `:degraded`: some do. `:failing`:
      operations end with device errors, three in a row or more, and none succeeds. `:unresponsive`: no
      session is left that has returned from the library, or connecting does not return from it. `:down`:
      `:absent` or `:locked` for any other reason
    * `:reason` is the error behind `:health`, nil for `:ok`. Of a call that does not return it is `:timeout`
      and tells which and since when
    * `:token` has `:slot`, `:label` and `:serial`, nil while there is none
    * `:login` is `:accepted` when the token took the PIN, `:shared` when somebody in this VM was logged
      in already and nobody has looked at the PIN, `:not_wanted` when there is a PIN and the token asks for
      no login, `:none` without a PIN, nil while there is no token
    * `:sessions` counts those `:wanted`, `:open`, `:busy` with a call, and `:overdue`: their caller
      gave up, the library has not returned yet
    * `:queue` is how many calls wait for a session
    * `:oldest_call` is the call that has been in the library for longest, nil when none is
    * `:epoch` is how often handles of this instance have become stale

  `guides/operations.md` has a health check that matches on it.

  Errors: `:shutdown`.

      iex> {:ok, status} = Cryptoki.status(MyApp.HSM)
      iex> {status.state, status.health, status.reason, status.queue}
      {:ready, :ok, nil, 0}
  """
  @spec status(hsm) :: {:ok, status} | error
  def status(hsm), do: at(hsm, Information.status(hsm))

  bang(status(hsm) :: status)

  @doc """
  Logs in with another PIN, given in any form that `pin:` of `start_link/1` may have; when the token takes
  it, it takes the place of that one. `:ok` at once when the instance is logged in: then nobody looks at
  the PIN. While the token is away the answer is `:token_absent`, and the PIN is tried when it comes.

  A PIN that this token has refused in this VM, or whose fate is not known, is not tried again, nor is the
  last try that a token allows used up, unless `force: true` says so.

  Errors: `:pin_incorrect`, `:pin_locked`, `:pin_unavailable`, `:token_absent`; any other code of C_Login.
  PKCS #11 v3.2, section 5.6.8 (C_Login).

      iex> Cryptoki.unlock(MyApp.HSM, fn -> IO.gets("PIN: ") |> String.trim() end)
      :ok
  """
  @spec unlock(hsm, pin, force: boolean, timeout: timeout) :: :ok | error
  def unlock(hsm, pin, opts \\ []) do
    with :ok <- Unlock.stays(hsm, pin), do: at(hsm, Unlock.unlock(hsm, pin, opts))
  end

  @doc """
  Has the calling process told about the token, until it ends or `unsubscribe/2`:

    * `{:cryptoki, ref, {:token_inserted, %{slot: id, label: label, serial: serial}}}`
    * `{:cryptoki, ref, {:token_removed, %{...}}}`, for tokens that the instance is meant for
    * `{:cryptoki, ref, {:state, :ready | :absent | :locked, nil | %Cryptoki.Error{}}}`
    * `{:cryptoki, ref, {:health, health, nil | %Cryptoki.Error{}}}` when `:health` of `status/1` changes and
      the state does not

  The slots are looked at as `watch:` of `start_link/1` says. PKCS #11 v3.2, section 5.5.4 (C_WaitForSlotEvent).

      iex> {:ok, ref} = Cryptoki.subscribe(MyApp.HSM)
      iex> Cryptoki.unsubscribe(MyApp.HSM, ref)
      :ok
  """
  @spec subscribe(hsm) :: {:ok, reference} | error
  def subscribe(hsm), do: Subscriptions.subscribe(hsm)

  @doc """
  Ends what `subscribe/1` began, in the process that did; no message of it is left or comes later.

      iex> {:ok, ref} = Cryptoki.subscribe(MyApp.HSM)
      iex> Cryptoki.unsubscribe(MyApp.HSM, ref)
      :ok
  """
  @spec unsubscribe(hsm, reference) :: :ok | error
  def unsubscribe(hsm, ref) when is_reference(ref), do: Subscriptions.unsubscribe(hsm, ref)

  ## Looking around

  @doc """
  The library: `:manufacturer`, `:description`, `:version`, the `:cryptoki_version` it says it has,
  the `:interface` in use and all `:interfaces` it offers (none before 3.0), each with `:name`,
  `:version` and `:flags`. Versions are `{major, minor}`.

  PKCS #11 v3.2, sections 5.4.3 (C_GetInfo) and 5.4.5 (C_GetInterfaceList).

      iex> {:ok, info} = Cryptoki.library_info(MyApp.HSM)
      iex> info.cryptoki_version
      {2, 40}
  """
  @spec library_info(hsm, opts) :: {:ok, map} | error
  def library_info(hsm, opts \\ []), do: at(hsm, Information.library_info(hsm, opts))

  bang(library_info(hsm, opts) :: map)

  @doc """
  All slots of a library, of an instance or by path, with what is in them: `:id`, `:description`,
  `:manufacturer`, `:flags`, versions, and `:token` as `token_info/2` has it, nil for an empty slot,
  `{:error, error}` for a slot or a token that does not answer.

  PKCS #11 v3.2, sections 5.5.1 (C_GetSlotList) and 5.5.2 (C_GetSlotInfo).

      iex> {:ok, slots} = Cryptoki.slots(MyApp.HSM)
      iex> "payments" in Enum.map(slots, & &1.token.label)
      true
      iex> {:error, error} = Cryptoki.slots(library: "/no/such/library.so")
      iex> error.reason
      :library_not_loaded
  """
  @spec slots(hsm | [library: Path.t()], opts) :: {:ok, [map]} | error
  def slots(hsm, opts \\ []), do: at(hsm, Information.slots(hsm, opts))

  bang(slots(hsm, opts) :: [map])

  @doc """
  The token: `:label`, `:manufacturer`, `:model`, `:serial`, `:flags` by name, counts of sessions
  (`:infinite` or `:unavailable` when the token says so), lengths of PINs and sizes of memory in
  bytes, versions, and `:utc_time` as `"YYYYMMDDhhmmss00"` when it has a clock.

  PKCS #11 v3.2, section 5.5.3 (C_GetTokenInfo).

      iex> {:ok, token} = Cryptoki.token_info(MyApp.HSM)
      iex> {token.label, :token_initialized in token.flags}
      {"payments", true}
  """
  @spec token_info(hsm, opts) :: {:ok, map} | error
  def token_info(hsm, opts \\ []), do: at(hsm, Information.token_info(hsm, opts))

  bang(token_info(hsm, opts) :: map)

  @doc """
  All mechanisms of the token; those without a name as numbers.

  PKCS #11 v3.2, section 5.5.5 (C_GetMechanismList).

      iex> {:ok, mechanisms} = Cryptoki.mechanisms(MyApp.HSM)
      iex> :aes_gcm in mechanisms
      true
  """
  @spec mechanisms(hsm, opts) :: {:ok, [atom | non_neg_integer]} | error
  def mechanisms(hsm, opts \\ []), do: at(hsm, Information.mechanisms(hsm, opts))

  bang(mechanisms(hsm, opts) :: [atom | non_neg_integer])

  @doc """
  What the token does with a mechanism: `:flags` by name, `:min_key_size` and `:max_key_size` in bits
  or bytes, as the standard has it for the mechanism.

  Errors: `:mechanism_invalid`. PKCS #11 v3.2, section 5.5.6 (C_GetMechanismInfo).

      iex> {:ok, info} = Cryptoki.mechanism_info(MyApp.HSM, :rsa_pkcs)
      iex> :sign in info.flags
      true
  """
  @spec mechanism_info(hsm, mechanism, opts) :: {:ok, map} | error
  def mechanism_info(hsm, mechanism, opts \\ []),
    do: at(hsm, Information.mechanism_info(hsm, mechanism, opts))

  bang(mechanism_info(hsm, mechanism, opts) :: map)

  ## Objects

  @doc """
  All objects that fit a selector, of any class unless it says; `[]` fits all. An object that the token
  cannot read is left out, and told in the log; when there is no other, its error is the answer.

  PKCS #11 v3.2, sections 5.7.7 to 5.7.9 (C_FindObjects).

      iex> {:ok, [key]} = Cryptoki.find(MyApp.HSM, class: :private_key, label: "invoice")
      iex> {key.key_type, key.id}
      {:rsa, <<1>>}
  """
  @spec find(hsm, key, opts) :: {:ok, [Key.t()]} | error
  def find(hsm, selector, opts \\ []), do: at(hsm, Objects.find(hsm, selector, opts))

  bang(find(hsm, key, opts) :: [Key.t()])

  @doc """
  The one object that fits a selector.

  Errors: `:key_not_found`, `:key_ambiguous`. PKCS #11 v3.2, sections 5.7.7 to 5.7.9.

      iex> {:ok, key} = Cryptoki.find_one(MyApp.HSM, "pkcs11:object=invoice;type=private")
      iex> key
      #Cryptoki.Key<private rsa "invoice" id=01>
  """
  @spec find_one(hsm, key, opts) :: {:ok, Key.t()} | error
  def find_one(hsm, selector, opts \\ []), do: at(hsm, Objects.find_one(hsm, selector, opts))

  bang(find_one(hsm, key, opts) :: Key.t())

  @doc """
  A lazy `find/3`: objects are read as the stream is consumed, by the process that does it. Holds no
  session. Raises `Cryptoki.Error`. PKCS #11 v3.2, sections 5.7.7 to 5.7.9.

      iex> MyApp.HSM |> Cryptoki.stream(class: :secret_key, token: true) |> Enum.map(& &1.label)
      ["archive"]
  """
  @spec stream(hsm, key, opts) :: Enumerable.t()
  def stream(hsm, selector, opts \\ []), do: Objects.stream(hsm, selector, opts)

  @doc """
  Attributes of an object by name. One that cannot be read is `{:error, reason}`, with
  `:attribute_sensitive`, `:attribute_type_invalid`, `:unavailable` or whatever the token answers to it alone,
  and spoils no other.

  Errors: `:key_not_found`, `:key_ambiguous`. PKCS #11 v3.2, section 5.7.5 (C_GetAttributeValue).

      iex> Cryptoki.attributes(MyApp.HSM, [class: :secret_key, label: "archive"], [:id, :value])
      {:ok, %{id: <<3>>, value: {:error, :attribute_sensitive}}}
  """
  @spec attributes(hsm, key, [Attribute.name()], opts) :: {:ok, map} | error
  def attributes(hsm, selector, names, opts \\ []),
    do: at(hsm, Objects.attributes(hsm, selector, names, opts))

  bang(attributes(hsm, key, names :: [Attribute.name()], opts) :: map)

  @doc """
  About how many bytes of the token's memory an object takes, `:unavailable` when it does not say.

  Errors: `:key_not_found`, `:key_ambiguous`, `:information_sensitive`. PKCS #11 v3.2, section 5.7.4
  (C_GetObjectSize).

      {:ok, bytes} = Cryptoki.size(hsm, class: :certificate, label: "invoice")
  """
  @spec size(hsm, key, opts) :: {:ok, non_neg_integer | :unavailable} | error
  def size(hsm, selector, opts \\ []), do: at(hsm, Objects.size(hsm, selector, opts))

  bang(size(hsm, key, opts) :: non_neg_integer | :unavailable)

  @doc """
  The check value of a secret key: three bytes by which two systems see that they have the same key. What the
  token keeps (`CKA_CHECK_VALUE`), else what it computes, as the standard says for the type of the key: of block
  ciphers the first bytes of an encrypted block of zeros, of the others those of the SHA-1 of their value.

  Three bytes tell keys apart that are different by mistake, and prove nothing against somebody who
  chooses keys.

  Errors: `:key_not_found`, `:key_ambiguous`, `:unsupported` when the token keeps none and the key may
  neither encrypt nor be digested. PKCS #11 v3.2, section 4.10.2.

      iex> {:ok, key} = Cryptoki.import_key(MyApp.HSM, {:aes, <<0::128>>}, label: "zeros")
      iex> Cryptoki.check_value(MyApp.HSM, key)
      {:ok, <<0x66, 0xE9, 0x4B>>}
  """
  @spec check_value(hsm, key, opts) :: {:ok, binary} | error
  def check_value(hsm, key, opts \\ []), do: at(hsm, CheckValue.check_value(hsm, key, opts))

  bang(check_value(hsm, key, opts) :: binary)

  @doc """
  Changes attributes of an object. A `Cryptoki.Key` from before keeps naming the object, but after
  a reconnect it is looked for by the label and id it knows: find it again.

  Errors: `:attribute_read_only`, `:session_read_only`, `:token_write_protected`. PKCS #11 v3.2,
  section 5.7.6 (C_SetAttributeValue).

      iex> {:ok, note} = Cryptoki.create(MyApp.HSM, class: :data, label: "a note", value: "hello")
      iex> Cryptoki.update(MyApp.HSM, note, label: "another")
      :ok
      iex> Cryptoki.destroy(MyApp.HSM, note)
      :ok
  """
  @spec update(hsm, key, template, opts) :: :ok | error
  def update(hsm, selector, template, opts \\ []),
    do: at(hsm, Objects.update(hsm, selector, template, opts))

  bang(update(hsm, key, template, opts) :: :ok)

  @doc """
  Makes an object of a template: data, a certificate, a public key, a key whose bytes are known.

  Errors: `:template_incomplete`, `:template_inconsistent`, `:session_read_only`. PKCS #11 v3.2,
  section 5.7.1 (C_CreateObject).

      iex> {:ok, key} = Cryptoki.create(MyApp.HSM, class: :secret_key, key_type: :aes,
      ...>   value: <<0::128>>, encrypt: true)
      iex> Cryptoki.destroy(MyApp.HSM, key)
      :ok
  """
  @spec create(hsm, template, opts) :: {:ok, Key.t()} | error
  def create(hsm, template, opts \\ []), do: at(hsm, Objects.create(hsm, template, opts))

  bang(create(hsm, template, opts) :: Key.t())

  @doc """
  Copies an object; the template says what is different in the copy.

  Errors: `:action_prohibited`, `:template_inconsistent`. PKCS #11 v3.2, section 5.7.2 (C_CopyObject).

      iex> {:ok, copy} = Cryptoki.copy(MyApp.HSM, [class: :secret_key, label: "archive"],
      ...>   label: "copy", token: false)
      iex> Cryptoki.destroy(MyApp.HSM, copy)
      :ok
  """
  @spec copy(hsm, key, template, opts) :: {:ok, Key.t()} | error
  def copy(hsm, selector, template, opts \\ []),
    do: at(hsm, Objects.copy(hsm, selector, template, opts))

  bang(copy(hsm, key, template, opts) :: Key.t())

  @doc """
  Destroys an object.

  Errors: `:key_not_found`, `:key_ambiguous`, `:action_prohibited`, `:session_read_only`. PKCS #11
  v3.2, section 5.7.3 (C_DestroyObject).

      iex> {:error, error} = Cryptoki.destroy(MyApp.HSM, label: "no such thing")
      iex> error.reason
      :key_not_found
  """
  @spec destroy(hsm, key, opts) :: :ok | error
  def destroy(hsm, selector, opts \\ []), do: at(hsm, Objects.destroy(hsm, selector, opts))

  bang(destroy(hsm, key, opts) :: :ok)

  @doc """
  A public key for `:public_key`: RSA, DSA, elliptic curves, Ed25519, Ed448, X25519, X448, ML-DSA and SLH-DSA.

  Of the last two it is the record of `:public_key` where that has one (OTP 29 does, OTP 27 does not):
  `{:"ML-DSAPublicKey", :mldsa65, bytes}`, `{:"SLH-DSAPublicKey", :slh_dsa_sha2_128f, bytes}`. Elsewhere it is
  `{:SubjectPublicKeyInfo, {:AlgorithmIdentifier, object_identifier, :asn1_NOVALUE}, bytes}`, which `:public_key.der_encode/2`
  writes, and which `Cryptoki.X509` and `Cryptoki.JWK` take as well. `Cryptoki.X509.to_pem/1` makes PEM of any of them.

  Of a private key it is the public half, which is proven: by what the private key shows (the modulus of
  RSA), else by a signature over bytes by chance, or an agreement (ECDH) of a key that does not sign, that
  the public key confirms. Public keys and certificates are tried with the id of the key, with its label,
  then all; an id alone proves nothing (PKCS #11 v3.2, section 4.6.3). It is done once and costs no PIN: a
  key that wants one at each use and shows nothing is `:unsupported`.

  A selector without a class names the private key, if there is one; else the public key or the
  certificate.

  Errors: `:key_not_found`, `:key_ambiguous`, `:unsupported` when nothing shows or proves it, and those of
  `sign/5`. PKCS #11 v3.2, sections 5.7.5 and 5.13 (C_GetAttributeValue, C_Sign).

      iex> {:ok, public_key} = Cryptoki.public_key(MyApp.HSM, label: "invoice")
      iex> {:ok, signature} = Cryptoki.sign(MyApp.HSM, [label: "invoice"], :sha256_rsa_pkcs, "text")
      iex> :public_key.verify("text", :sha256, signature, public_key)
      true
  """
  @spec public_key(hsm, key, opts) :: {:ok, :public_key.public_key() | tuple} | error
  def public_key(hsm, selector, opts \\ []), do: at(hsm, Objects.public_key(hsm, selector, opts))

  bang(public_key(hsm, key, opts) :: :public_key.public_key() | tuple)

  @doc """
  The DER of a certificate on the token; of a `Cryptoki.Key` that is a key, the one with its public key,
  whatever id it has, see `public_key/3`.

  Nothing but a certificate is handed out: a URI or a key that names something else is
  `:key_not_found`, a `class:` of something else raises `ArgumentError`.

  Errors: `:key_not_found`, `:key_ambiguous`, `:unsupported` when the token keeps only a URL. PKCS
  #11 v3.2, sections 4.6 and 5.7.5 (C_GetAttributeValue).

      iex> {:ok, der} = Cryptoki.certificate(MyApp.HSM, label: "invoice")
      iex> elem(:public_key.pkix_decode_cert(der, :plain), 0)
      :Certificate
  """
  @spec certificate(hsm, key, opts) :: {:ok, binary} | error
  def certificate(hsm, selector, opts \\ []),
    do: at(hsm, Objects.certificate(hsm, selector, opts))

  bang(certificate(hsm, key, opts) :: binary)

  @doc """
  Takes an X.509 certificate, DER or PEM, to the token, with the subject, issuer and serial number that others find it
  by. Nothing else of it is looked at, and nothing is verified: `Cryptoki.X509.certificate/1` shows what it says.

  `template` is for what it does not say itself: `label:` and `id:`, which should be those of its key, `token: true`,
  without which it ends with its session, `private:`, and `trusted: true`, which tokens take from the security officer
  alone (an instance with `user: :so`), if at all. An attribute that says what the certificate is, and otherwise than
  it does, raises `ArgumentError`. Several in one PEM are `:invalid_argument`: each has a name of its own.

  Errors: `:invalid_argument` for what is no certificate, and those of `create/3`. PKCS #11 v3.2, sections 4.6.3 (X.509
  public key certificate objects) and 5.7.1 (C_CreateObject).

      iex> der = Cryptoki.certificate!(MyApp.HSM, label: "invoice")
      iex> {:ok, copy} = Cryptoki.import_certificate(MyApp.HSM, der, label: "imported", id: <<9>>)
      iex> copy
      #Cryptoki.Key<certificate "imported" id=09 session>
      iex> Cryptoki.certificate(MyApp.HSM, copy) == {:ok, der}
      true
  """
  @spec import_certificate(hsm, certificate :: binary, template, opts) :: {:ok, Key.t()} | error
  def import_certificate(hsm, certificate, template, opts \\ []),
    do: at(hsm, Import.Certificate.import_certificate(hsm, certificate, template, opts))

  bang(import_certificate(hsm, certificate :: binary, template, opts) :: Key.t())

  ## Making keys

  @doc """
  Generates a secret key. What the template says wins over these:

  | mechanism | attributes |
  |---|---|
  | all | `sensitive: true, extractable: false` |
  | block and stream ciphers: `:aes_key_gen`, `:chacha20_key_gen` ... | `encrypt: true, decrypt: true` |
  | `:hkdf_key_gen` | `derive: true` |
  | the others: `:generic_secret_key_gen` ... | `sign: true, verify: true` |

  As soon as the template says itself what the key is for (`wrap: true`), it is left to do so alone.
  `value_len:` is in bytes. Without `token: true` the key ends with its session.

  Errors: `:template_incomplete`, `:key_size_range`, `:session_read_only`. PKCS #11 v3.2, section
  5.18.1 (C_GenerateKey).

      iex> {:ok, key} = Cryptoki.generate_key(MyApp.HSM, :aes_key_gen, id: <<9>>, value_len: 32)
      iex> {key.key_type, key.id}
      {:aes, <<9>>}
  """
  @spec generate_key(hsm, mechanism, template, opts) :: {:ok, Key.t() | beside} | error
  def generate_key(hsm, mechanism, template, opts \\ []),
    do: at(hsm, Objects.generate_key(hsm, mechanism, template, opts))

  bang(generate_key(hsm, mechanism, template, opts) :: Key.t() | beside)

  @doc """
  Generates a key pair. One template serves both halves, each attribute where it belongs:

  | half | attributes |
  |---|---|
  | public | `curve`, `ec_params`, `modulus_bits`, `public_exponent`, `parameter_set`, domain parameters, `verify`, `encrypt`, `wrap`, `encapsulate`, `trusted` |
  | private | `sign`, `decrypt`, `unwrap`, `derive`, `decapsulate`, `sensitive`, `extractable`, `private`, `always_authenticate` |
  | both | all others: `label`, `id`, `token` ... |

  `public: [...]` and `private: [...]` are for one half only and win. What is not said is

  | mechanism | public | private |
  |---|---|---|
  | all | | `private: true, sensitive: true, extractable: false` |
  | RSA | `public_exponent: 65537` | |
  | X25519, X448, Diffie-Hellman | | `derive: true` |
  | ML-KEM | `encapsulate: true` | `decapsulate: true` |
  | the others | `verify: true` | `sign: true` |

  As soon as a template says itself what a half is for (`encrypt: true, decrypt: true`), it is left
  to do so alone. `modulus_bits:` is in bits. Without `token: true` the keys end with their session.

  Errors: `:template_inconsistent`, `:curve_not_supported`, `:session_read_only`. PKCS #11 v3.2,
  section 5.18.2 (C_GenerateKeyPair).

      iex> {:ok, {public, private}} =
      ...>   Cryptoki.generate_key_pair(MyApp.HSM, :ec_key_pair_gen, label: "k", curve: :secp256r1)
      iex> {public.class, private.class, private.label}
      {:public_key, :private_key, "k"}
  """
  @spec generate_key_pair(hsm, mechanism, template, opts) :: {:ok, {Key.t(), Key.t()}} | error
  def generate_key_pair(hsm, mechanism, template, opts \\ []),
    do: at(hsm, Objects.generate_key_pair(hsm, mechanism, template, opts))

  bang(generate_key_pair(hsm, mechanism, template, opts) :: {Key.t(), Key.t()})

  @typedoc """
  What a key is imported from: the file of one, as PEM, DER or JSON; the bytes of a secret key with what it is;
  a record of `:public_key`; a JWK as a map.
  """
  @type importable ::
          binary
          | {:"ML-DSAPrivateKey" | :"ML-KEMPrivateKey", algorithm :: atom, seed :: binary,
             expanded :: binary}
          | {:"SLH-DSAPrivateKey", algorithm :: atom, binary}
          | {:"ML-DSAPublicKey" | :"ML-KEMPublicKey" | :"SLH-DSAPublicKey", algorithm :: atom,
             binary}
          | {:SubjectPublicKeyInfo, algorithm :: tuple, binary}
          | {:aes | :hmac | :generic_secret, binary}
          | {:pkcs12, der :: binary}
          | :public_key.private_key()
          | :public_key.public_key()
          | %{String.t() => term}

  @doc """
  Takes a key that is somewhere else into the token:

  | what | answer |
  |---|---|
  | a file, `File.read!("key.pem")`: PKCS #8 (RFC 5958), PKCS #1, SEC 1, in DER or PEM; OpenSSH's own form; a JWK in JSON | the private key, its public key beside it |
  | the file of a public key, DER, PEM (of PKCS #1 too) or JWK | the public key |
  | `{:pkcs12, File.read!("key.p12")}` (RFC 7292), with `password:` where it has one | `{key, certificates}`: the private key, its public key beside it, and DER: its own certificate first, then that of its issuer and so on |
  | `{:aes, bytes}`, `{:hmac, bytes}`, `{:generic_secret, bytes}`; a JWK with `"kty": "oct"` | the secret key |
  | a record of `:public_key` (`RSAPrivateKey`, `ECPrivateKey`, those of ML-DSA, ML-KEM and SLH-DSA of OTP 29, a public key), a JWK that was decoded | as that of a file |

  RSA with two primes, elliptic curves by their names, Ed25519, Ed448, X25519, X448; ML-DSA (RFC 9881), ML-KEM (RFC 9935)
  and SLH-DSA (RFC 9909), of the first two the seed, the expanded key or both, as the file has it. PKCS #8 may be
  encrypted as programs do it today (PBES2 with PBKDF2, AES or Triple DES) or did (DES and RC2 there and in PBES1, Triple DES and RC2 of PKCS #12),
  PKCS #1 and SEC 1 as OpenSSL and `ssh-keygen -m PEM` do (headers `Proc-Type` and `DEK-Info`: AES, Triple DES, DES, RC2), keys of OpenSSH with
  any cipher of `ssh-keygen`: `password:` opens it, given in any form that `pin:` of `start_link/1` may have; of a file that is
  not encrypted it is not needed. Up to two million rounds are computed, six of all in a PKCS #12, of OpenSSH's bcrypt 256 (the 16 or
  24 that it has by itself are a second or two); they count for `timeout:`, and when it is over then nothing is made.

  What the template says wins over `private: true, sensitive: true, extractable: false`, `sign: true`
  for the private half (`derive: true` for X25519 and X448) and `verify: true` for the public one (of ML-KEM `decapsulate: true` and `encapsulate: true`); for an AES key
  `encrypt: true, decrypt: true`, for other secret keys `sign: true, verify: true`. The
  public key is stored beside the private one, with what the template says for both (`label:`, `id:`, `token:` ...);
  `public: [...]` and `private: [...]` are for one half only, as in `generate_key_pair/4`, and `public: false`
  leaves it out. What the key is comes with it: an attribute that says otherwise raises
  `ArgumentError`. Secrets for HMAC are of the type `:generic_secret`, or of that of one HMAC that `key_type:`
  says (`:sha256_hmac`). Without `token: true` the keys end with their session. On a token of before 3.0 that
  has X25519, such as SoftHSM, say `key_type: :ec_edwards`. A name may be in use: then there are two keys of
  it, which a line in the log says, and a selector that says no more than `label:` is `:key_ambiguous`.

  A PKCS #12, in DER, BER or PEM, is opened when its MAC (SHA-1 or SHA-2; PBMAC1, RFC 9579) is right, and not before; one private key
  has to be in it. Its certificates are answered and not stored: `import_certificate/4` does that.

  The file is held to the standards: its numbers belong together, a public key in it is the key's own, and
  the key is one that a certificate could be made for (RSA of 2048 to 16384 bits, curves of 224 bits or
  more). The key on the token is proven before `{:ok, key}`, without a PIN: a private one by its public key, it
  signs, or agrees (ECDH, ML-KEM), or decrypts (RSA), as `allowed_mechanisms:` lets it; a secret one encrypts, decrypts, signs
  or unwraps as the bytes do, or has their digest or check value; a public one shows what was given. One that may do nothing of that, or
  wants its PIN at each use, is `:unsupported`. After a failure nothing is left on the token, as far as the error is not `executed:
  :maybe`: then C_CreateObject or C_UnwrapKey may have made what the template names, or what it made could not be taken
  away, as after a restart of the token: it is looked for by `unique_id`, where there is one, and never by
  names that another key may have. A caller that is killed meanwhile leaves a key that is not proven.

  `how: :create` gives the token the value of the key (C_CreateObject). HSMs in FIPS mode take none in the clear:
  with `how: :unwrap` the token makes an RSA pair of 2048 bits for the while of the call, the key is wrapped here for its public
  key and unwrapped there (C_UnwrapKey), in the first of these ways that the token has: CKM_RSA_AES_KEY_WRAP; OAEP for an AES key, under
  which the key is wrapped with padding (CKM_AES_KEY_WRAP_KWP, RFC 5649); for secret keys OAEP alone. `how: :auto`, the
  default, does that where the token refuses the value (`:attribute_value_invalid`, `:template_inconsistent`,
  `:function_not_supported` or a code like these). The pair is of the session, sensitive, and gone afterwards, also on failure; a line in the
  log says when it could not be destroyed. A public key is never wrapped.

  Key and file have been in the memory of this VM, which cannot be overwritten, for as long as the call takes and
  until the garbage of the calling process is collected; so has, of a key that is wrapped, the AES key of one use.

  Errors: `:invalid_argument` when the file holds no such key, `:unsupported` for forms and kinds of keys
  that are not read here (other encryption) and for keys that cannot be proven, both with what is the matter;
  `:pin_unavailable` when the password cannot be had; `:module_misbehaved` when the token has made another key of it; `:template_inconsistent`,
  `:curve_not_supported`, `:session_read_only`. PKCS #11 v3.2, sections 5.7.1 (C_CreateObject), 5.18 (C_UnwrapKey)
  and 5.13 (C_Sign).

      iex> legacy = :public_key.generate_key({:namedCurve, :secp256r1})
      iex> pem = :public_key.pem_encode([:public_key.pem_entry_encode(:ECPrivateKey, legacy)])
      iex> {:ok, key} = Cryptoki.import_key(MyApp.HSM, pem, label: "legacy", id: <<7>>)
      iex> key
      #Cryptoki.Key<private ec "legacy" id=07 session>
      iex> {:ok, key} = Cryptoki.import_key(MyApp.HSM, {:hmac, :crypto.strong_rand_bytes(32)}, label: "cookies", id: <<8>>)
      iex> key
      #Cryptoki.Key<secret generic_secret "cookies" id=08 session>
  """
  @spec import_key(hsm, importable, template, opts) ::
          {:ok, Key.t() | {Key.t(), certificates :: [binary]}} | error
  def import_key(hsm, given, template, opts \\ []),
    do: at(hsm, Import.import_key(hsm, given, template, opts))

  bang(import_key(hsm, importable, template, opts) :: Key.t() | {Key.t(), [binary]})

  ## Signatures

  @doc """
  Signs data, or computes a MAC. ECDSA answers r and s one after the other, as the standard says;
  `format: :der` gives what X.509 and `:public_key` want. What a library gives in another form is brought
  to that of the standard where it can be one signature only, and is `:module_misbehaved` otherwise.

  A token that does not hash what it signs, or takes so many bytes only (`:mechanism_invalid`,
  `:data_len_range`), gets the digest, made in this VM: for RSA (PKCS #1 and PSS), ECDSA and DSA, here and
  in `verify/6`, not in `start/5`. One without PSS signs by raw RSA (CKM_RSA_X_509), where it has that, what
  is encoded in this VM.

  One-time passwords (`:hotp`, `:securid`, `:acti`) answer a map: `%{value: "755224"}`.

  Errors: `:key_not_found`, `:key_ambiguous`, `:key_function_not_permitted`, `:mechanism_invalid`,
  `:key_type_inconsistent` when the key is of another type than the mechanism works with, `:data_len_range` when a mechanism without hash gets too much. PKCS #11 v3.2, section 5.13 (C_Sign).

      iex> file = {:stream, File.stream!("mix.exs")}
      iex> {:ok, signature} = Cryptoki.sign(MyApp.HSM, [label: "invoice"], :sha256_rsa_pkcs, file)
      iex> byte_size(signature)
      256
      iex> {:ok, signature} = Cryptoki.sign(MyApp.HSM, [label: "contract"], :ecdsa_sha256, "text")
      iex> byte_size(signature)
      64
  """
  @spec sign(hsm, key, mechanism, data, opts) :: {:ok, binary | %{atom => binary}} | error
  def sign(hsm, key, mechanism, data, opts \\ []),
    do: at(hsm, Operations.sign(hsm, key, mechanism, data, opts))

  bang(sign(hsm, key, mechanism, data, opts) :: binary | %{atom => binary})

  @doc """
  Verifies a signature or a MAC; `format: :der` for one of ECDSA in DER. `signature_first: true` has
  the token know the signature before the data, which some of 3.2 want for some mechanisms.

  Errors: `:signature_invalid`, `:signature_len_range`, and those of `sign/5`. PKCS #11 v3.2, section
  5.15 (C_Verify, C_VerifySignature).

      iex> {:ok, signature} = Cryptoki.sign(MyApp.HSM, [label: "invoice"], :sha256_rsa_pkcs, "text")
      iex> Cryptoki.verify(MyApp.HSM, [label: "invoice"], :sha256_rsa_pkcs, "text", signature)
      :ok
      iex> {:error, error} = Cryptoki.verify(MyApp.HSM, [label: "invoice"], :sha256_rsa_pkcs, "", signature)
      iex> error.reason
      :signature_invalid
  """
  @spec verify(hsm, key, mechanism, data, signature :: iodata, opts) :: :ok | error
  def verify(hsm, key, mechanism, data, signature, opts \\ []),
    do: at(hsm, Operations.verify(hsm, key, mechanism, data, signature, opts))

  bang(verify(hsm, key, mechanism, data, signature :: iodata, opts) :: :ok)

  @doc """
  Whether a signature is right: `verify/6` as a question. One of the wrong length is a no; raises
  `Cryptoki.Error` for anything but yes or no.

      iex> {:ok, signature} = Cryptoki.sign(MyApp.HSM, [label: "invoice"], :sha256_rsa_pkcs, "text")
      iex> Cryptoki.valid?(MyApp.HSM, [label: "invoice"], :sha256_rsa_pkcs, "another", signature)
      false
  """
  @spec valid?(hsm, key, mechanism, data, signature :: iodata, opts) :: boolean
  def valid?(hsm, key, mechanism, data, signature, opts \\ []),
    do: Operations.valid?(hsm, key, mechanism, data, signature, opts)

  @doc """
  Signs data that can be recovered from the signature (RSA, with `:rsa_pkcs` or `:rsa_x_509`).

  Errors: `:function_not_supported`, `:data_len_range`. PKCS #11 v3.2, section 5.13 (C_SignRecover).

      {:ok, signature} = Cryptoki.sign_recover(hsm, [label: "invoice"], :rsa_pkcs, "text")
  """
  @spec sign_recover(hsm, key, mechanism, data, opts) :: {:ok, binary} | error
  def sign_recover(hsm, key, mechanism, data, opts \\ []),
    do: at(hsm, Operations.sign_recover(hsm, key, mechanism, data, opts))

  bang(sign_recover(hsm, key, mechanism, data, opts) :: binary)

  @doc """
  Verifies a signature of `sign_recover/5` and answers the data in it.

  Errors: `:signature_invalid`, `:function_not_supported`. PKCS #11 v3.2, section 5.15
  (C_VerifyRecover).

      {:ok, "text"} = Cryptoki.verify_recover(hsm, [label: "invoice"], :rsa_pkcs, signature)
  """
  @spec verify_recover(hsm, key, mechanism, signature :: iodata, opts) :: {:ok, binary} | error
  def verify_recover(hsm, key, mechanism, signature, opts \\ []),
    do: at(hsm, Operations.verify_recover(hsm, key, mechanism, signature, opts))

  bang(verify_recover(hsm, key, mechanism, signature :: iodata, opts) :: binary)

  ## Encryption

  @doc """
  Encrypts data. AES-GCM and AES-CCM answer the ciphertext with the tag behind it.

  Some tokens choose the IV themselves: with `iv: :token` (`nonce: :token`) the answer is `{:ok, {iv,
  ciphertext}}`. The token is given zeros, 12 bytes or as many as the cipher takes, and writes over
  them; or, for AES-GCM, it is given no IV and puts its own behind the tag: whatever it takes. One that does
  neither is `:unsupported`. `iv: ""` gives AES-GCM no IV and answers the bytes as they come. An IV
  that was given and that the token has replaced is the error `:unsupported`: nobody could decrypt
  what came of it.

  On tokens with dual-function operations one pass over the data does two things: with `digest:
  mechanism` the answer is `{:ok, {ciphertext, digest}}`, with `sign: {key, mechanism}` it is `{:ok,
  {ciphertext, signature}}`, of the plaintext. Others answer `:unsupported`.

  Errors: `:key_not_found`, `:key_ambiguous`, `:key_function_not_permitted`, `:data_len_range` for
  data too long for RSA or not a multiple of the block. PKCS #11 v3.2, sections 5.8 (C_Encrypt) and
  5.17 (C_DigestEncryptUpdate, C_SignEncryptUpdate).

      iex> {:ok, iv} = Cryptoki.random(MyApp.HSM, 12)
      iex> gcm = {:aes_gcm, iv: iv, aad: "header", tag_bits: 128}
      iex> {:ok, ciphertext} = Cryptoki.encrypt(MyApp.HSM, [label: "archive"], gcm, "text")
      iex> Cryptoki.decrypt(MyApp.HSM, [label: "archive"], gcm, ciphertext)
      {:ok, "text"}
  """
  @spec encrypt(hsm, key, mechanism, data, opts) ::
          {:ok, binary | {binary, digest_or_signature :: binary} | {iv :: binary, binary}} | error
  def encrypt(hsm, key, mechanism, data, opts \\ []),
    do: at(hsm, Ciphers.encrypt(hsm, key, mechanism, data, opts))

  bang(encrypt(hsm, key, mechanism, data, opts) :: binary | {binary, binary})

  @doc """
  Decrypts data.

  On tokens with dual-function operations, see `encrypt/5`, `digest: mechanism` answers `{:ok,
  {plaintext, digest}}`, and `verify: {key, mechanism, signature}` the plaintext only when the
  signature is one of it, else `:signature_invalid`.

  What somebody else may have sent raises nothing: an IV, a nonce or a length of a tag that there is not is
  `:mechanism_param_invalid`, a ciphertext shorter than its tag `:encrypted_data_len_range`; the token is not asked.

  Errors: `:encrypted_data_invalid`, `:encrypted_data_len_range`, `:aead_decrypt_failed`, and those of
  `encrypt/5`. PKCS #11 v3.2, sections 5.10 (C_Decrypt) and 5.17 (C_DecryptDigestUpdate,
  C_DecryptVerifyUpdate).

      iex> {:ok, iv} = Cryptoki.random(MyApp.HSM, 16)
      iex> {:ok, ciphertext} = Cryptoki.encrypt(MyApp.HSM, [label: "archive"], {:aes_cbc_pad, iv: iv}, "text")
      iex> Cryptoki.decrypt(MyApp.HSM, [label: "archive"], {:aes_cbc_pad, iv: iv}, ciphertext)
      {:ok, "text"}
  """
  @spec decrypt(hsm, key, mechanism, data, opts) ::
          {:ok, binary | {binary, digest :: binary}} | error
  def decrypt(hsm, key, mechanism, data, opts \\ []),
    do: at(hsm, Ciphers.decrypt(hsm, key, mechanism, data, opts))

  bang(decrypt(hsm, key, mechanism, data, opts) :: binary | {binary, binary})

  @doc """
  Encrypts a stream of iodata lazily: a stream of binaries, with no more than 64 KiB of the data in
  memory. Nothing happens before it is consumed; then the process that does holds one session until
  the stream ends, is halted or raises. Raises `Cryptoki.Error`.

  As `encrypt/5` otherwise, without `digest:` and `sign:`. PKCS #11 v3.2, section 5.8
  (C_EncryptUpdate).

      iex> cbc = {:aes_cbc_pad, iv: <<0::128>>}
      iex> secret = MyApp.HSM |> Cryptoki.encrypt_stream([label: "archive"], cbc, ["some ", "text"])
      iex> MyApp.HSM |> Cryptoki.decrypt_stream([label: "archive"], cbc, secret) |> Enum.join()
      "some text"
  """
  @spec encrypt_stream(hsm, key, mechanism, Enumerable.t(), opts) :: Enumerable.t()
  def encrypt_stream(hsm, key, mechanism, chunks, opts \\ []),
    do: Lazy.stream(hsm, :encrypt, key, mechanism, chunks, opts)

  @doc """
  Decrypts a stream of iodata lazily, as `encrypt_stream/5` encrypts. With AES-GCM and the like a token
  holds the plaintext back until it has seen the tag: then all of it is in the token's memory, and
  comes at the end. Other modes give plaintext that nobody has authenticated.

  PKCS #11 v3.2, section 5.10 (C_DecryptUpdate).

      hsm
      |> Cryptoki.decrypt_stream([label: "archive"], {:aes_cbc_pad, iv: iv}, File.stream!("a.enc", [], 65_536))
      |> Stream.into(File.stream!("a.txt"))
      |> Stream.run()
  """
  @spec decrypt_stream(hsm, key, mechanism, Enumerable.t(), opts) :: Enumerable.t()
  def decrypt_stream(hsm, key, mechanism, chunks, opts \\ []),
    do: Lazy.stream(hsm, :decrypt, key, mechanism, chunks, opts)

  ## Digests and random numbers

  @doc """
  Computes a digest on the token.

  Errors: `:mechanism_invalid`. PKCS #11 v3.2, section 5.12 (C_Digest).

      iex> {:ok, digest} = Cryptoki.digest(MyApp.HSM, :sha256, ["a", "bc"])
      iex> digest == :crypto.hash(:sha256, "abc")
      true
  """
  @spec digest(hsm, mechanism, data, opts) :: {:ok, binary} | error
  def digest(hsm, mechanism, data, opts \\ []),
    do: at(hsm, Operations.digest(hsm, mechanism, data, opts))

  bang(digest(hsm, mechanism, data, opts) :: binary)

  @doc """
  Random bytes of the token, as many as asked for, up to 16 MiB: in several calls where the library gives
  less at once.

  Errors: `:random_no_rng`. PKCS #11 v3.2, section 5.19 (C_GenerateRandom).

      iex> {:ok, bytes} = Cryptoki.random(MyApp.HSM, 32)
      iex> byte_size(bytes)
      32
  """
  @spec random(hsm, count :: non_neg_integer, opts) :: {:ok, binary} | error
  def random(hsm, count, opts \\ []), do: at(hsm, Operations.random(hsm, count, opts))

  bang(random(hsm, count :: non_neg_integer, opts) :: binary)

  @doc """
  Mixes bytes into the token's random number generator, in pieces where it takes less at once.

  Errors: `:random_seed_not_supported`, `:random_no_rng`. PKCS #11 v3.2, section 5.19 (C_SeedRandom).

      iex> Cryptoki.seed_random(MyApp.HSM, "what the weather is like")
      :ok
  """
  @spec seed_random(hsm, seed :: iodata, opts) :: :ok | error
  def seed_random(hsm, seed, opts \\ []), do: at(hsm, Operations.seed_random(hsm, seed, opts))

  bang(seed_random(hsm, seed :: iodata, opts) :: :ok)

  ## Keys under keys

  @doc """
  Wraps a private or secret key with another key, to be stored or carried elsewhere. With
  `associated_data:` these bytes are authenticated together with it (3.2, for AES-GCM and the like).
  With `iv: :token` in the mechanism the token writes an IV of its own over the zeros it is given, and the
  answer is `{:ok, {iv, blob}}`; see `encrypt/5`.

  Errors: `:key_unextractable`, `:key_not_wrappable`, `:wrapping_key_type_inconsistent`. PKCS #11
  v3.2, section 5.18 (C_WrapKey, C_WrapKeyAuthenticated).

      iex> {:ok, kek} = Cryptoki.generate_key(MyApp.HSM, :aes_key_gen, value_len: 32, wrap: true, unwrap: true)
      iex> {:ok, key} = Cryptoki.generate_key(MyApp.HSM, :aes_key_gen, value_len: 16, extractable: true)
      iex> {:ok, blob} = Cryptoki.wrap_key(MyApp.HSM, kek, :aes_key_wrap, key)
      iex> {:ok, again} = Cryptoki.unwrap_key(MyApp.HSM, kek, :aes_key_wrap, blob,
      ...>   class: :secret_key, key_type: :aes, label: "again")
      iex> {again.key_type, again.label}
      {:aes, "again"}
  """
  @spec wrap_key(hsm, wrapping_key :: key, mechanism, key, opts) ::
          {:ok, binary | {iv :: binary, binary}} | error
  def wrap_key(hsm, wrapping_key, mechanism, key, opts \\ []),
    do: at(hsm, KeyTransport.wrap_key(hsm, wrapping_key, mechanism, key, opts))

  bang(wrap_key(hsm, wrapping_key :: key, mechanism, key, opts) :: binary | {binary, binary})

  @doc """
  Makes a key of what `wrap_key/5` gave, with the same `associated_data:` if it had any. The template
  says what it is and what it may do; nothing is added to it.

  Errors: `:wrapped_key_invalid`, `:wrapped_key_len_range`, `:template_incomplete`. PKCS #11 v3.2,
  section 5.18 (C_UnwrapKey, C_UnwrapKeyAuthenticated).

      {:ok, key} =
        Cryptoki.unwrap_key(hsm, [label: "kek"], :aes_key_wrap, blob, class: :secret_key, key_type: :aes)
  """
  @spec unwrap_key(hsm, unwrapping_key :: key, mechanism, blob :: iodata, template, opts) ::
          {:ok, Key.t()} | error
  def unwrap_key(hsm, unwrapping_key, mechanism, blob, template, opts \\ []),
    do: at(hsm, KeyTransport.unwrap_key(hsm, unwrapping_key, mechanism, blob, template, opts))

  bang(
    unwrap_key(hsm, unwrapping_key :: key, mechanism, blob :: iodata, template, opts) :: Key.t()
  )

  @doc """
  Derives a key from another: a key agreement, a key derivation function. The template says what it
  is and what it may do; nothing is added to it.

  Some mechanisms give more than a key: `:tls12_key_and_mac_derive` a map of keys and IVs,
  `:sp800_108_counter_kdf` with `additional_keys:` a list of keys, `:tls_prf` bytes.
  `Cryptoki.Mechanism` says for each of them what.

  Errors: `:mechanism_param_invalid`, `:domain_params_invalid`, `:template_inconsistent`. PKCS #11
  v3.2, section 5.18.5 (C_DeriveKey).

      iex> {:ok, {public, private}} = Cryptoki.generate_key_pair(MyApp.HSM, :ec_key_pair_gen,
      ...>   label: "agreement", curve: :secp256r1, derive: true)
      iex> {:ok, {{:ECPoint, point}, _curve}} = Cryptoki.public_key(MyApp.HSM, public)
      iex> {:ok, key} = Cryptoki.derive_key(MyApp.HSM, private, {:ecdh1_derive, public: point, kdf: :null},
      ...>   class: :secret_key, key_type: :aes, value_len: 32, label: "agreed")
      iex> {key.key_type, key.label}
      {:aes, "agreed"}
  """
  @spec derive_key(hsm, base_key :: key, mechanism, template, opts) ::
          {:ok, Key.t() | beside} | error
  def derive_key(hsm, base_key, mechanism, template, opts \\ []),
    do: at(hsm, KeyTransport.derive_key(hsm, base_key, mechanism, template, opts))

  bang(derive_key(hsm, base_key :: key, mechanism, template, opts) :: Key.t() | beside)

  @doc """
  Makes a secret key and encapsulates it for the owner of a public key (ML-KEM, 3.2): the ciphertext
  to send, and the key. The template says what the key is and what it may do; nothing is added.

  Errors: `:function_not_supported`, `:mechanism_invalid`, `:key_function_not_permitted`. PKCS #11
  v3.2, section 5.18 (C_EncapsulateKey).

      template = [class: :secret_key, key_type: :aes, value_len: 32, encrypt: true]
      {:ok, {ciphertext, key}} = Cryptoki.encapsulate_key(hsm, [label: "kem"], :ml_kem, template)
  """
  @spec encapsulate_key(hsm, public_key :: key, mechanism, template, opts) ::
          {:ok, {ciphertext :: binary, Key.t()}} | error
  def encapsulate_key(hsm, public_key, mechanism, template, opts \\ []),
    do: at(hsm, KeyTransport.encapsulate_key(hsm, public_key, mechanism, template, opts))

  bang(
    encapsulate_key(hsm, public_key :: key, mechanism, template, opts) ::
      {ciphertext :: binary, Key.t()}
  )

  @doc """
  The secret key in a ciphertext of `encapsulate_key/5`. A ciphertext that is not for this key gives,
  with ML-KEM, another key and no error.

  Errors: `:function_not_supported`, `:wrapped_key_len_range`, `:encrypted_data_len_range`. PKCS #11
  v3.2, section 5.18 (C_DecapsulateKey).

      template = [class: :secret_key, key_type: :aes, value_len: 32, decrypt: true]
      {:ok, key} = Cryptoki.decapsulate_key(hsm, [label: "kem"], :ml_kem, ciphertext, template)
  """
  @spec decapsulate_key(hsm, private_key :: key, mechanism, blob :: iodata, template, opts) ::
          {:ok, Key.t()} | error
  def decapsulate_key(hsm, private_key, mechanism, blob, template, opts \\ []),
    do: at(hsm, KeyTransport.decapsulate_key(hsm, private_key, mechanism, blob, template, opts))

  bang(
    decapsulate_key(hsm, private_key :: key, mechanism, blob :: iodata, template, opts) :: Key.t()
  )

  ## Sessions and multi-part operations

  @doc """
  Runs a function with a session that serves this process only, until the function ends, and answers
  what it answers. What it leaves behind is cancelled, also when it raises.

  The session stands wherever an instance does. `timeout:` is how long to wait for one. Inside, a
  call to the instance itself would need a second session: use the one you have. Another process
  that uses it gets an `ArgumentError`, and a use after the end is `:session_lost`.

      iex> Cryptoki.with_session(MyApp.HSM, fn session ->
      ...>   {:ok, op} = Cryptoki.start(session, :sign, [label: "invoice"], :sha256_rsa_pkcs)
      ...>   for chunk <- ["some ", "text"], do: :ok = Cryptoki.Operation.update(op, chunk)
      ...>   {:ok, signature} = Cryptoki.Operation.finish(op)
      ...>   Cryptoki.verify(session, [label: "invoice"], :sha256_rsa_pkcs, "some text", signature)
      ...> end)
      :ok
  """
  @spec with_session(hsm, (Session.t() -> result), timeout: timeout) :: result | error
        when result: term
  def with_session(hsm, fun, opts \\ []) when is_function(fun, 1),
    do: HSM.with_session(hsm, Options.call!(opts, [:timeout]), fun)

  @doc """
  Begins a multi-part operation on a session of `with_session/3`: `:sign`, `:verify`, `:encrypt`,
  `:decrypt`, or `:digest` (see `start/3`). `Cryptoki.Operation` goes on from there. `:verify` takes
  the signature at the end, or here with `signature:` (3.2).

  `:message_encrypt`, `:message_decrypt`, `:message_sign` and `:message_verify` (3.0) begin any number of
  `Cryptoki.Operation.message/4`; the mechanism is given by its name, its parameters with each
  message.

  Errors: those of the verb, `:operation_active` when the session is in one of that kind already.
  PKCS #11 v3.2, sections 5.8 to 5.16 (C_...Init).

      {:ok, op} = Cryptoki.start(session, :verify, [label: "invoice"], :sha256_rsa_pkcs)
      :ok = Cryptoki.Operation.update(op, "some text")
      :ok = Cryptoki.Operation.finish(op, signature)
  """
  @spec start(Session.t(), kind, key | nil, mechanism, opts) :: {:ok, Operation.t()} | error
  def start(session, kind, key, mechanism, opts \\ []),
    do: at(session, Operations.start(session, kind, key, mechanism, opts))

  bang(start(session :: Session.t(), kind, key :: key | nil, mechanism, opts) :: Operation.t())

  @doc """
  Begins a digest. PKCS #11 v3.2, section 5.12 (C_DigestInit).

      iex> Cryptoki.with_session(MyApp.HSM, fn session ->
      ...>   {:ok, op} = Cryptoki.start(session, :digest, :sha256)
      ...>   :ok = Cryptoki.Operation.update(op, "abc")
      ...>   {:ok, digest} = Cryptoki.Operation.finish(op)
      ...>   digest == :crypto.hash(:sha256, "abc")
      ...> end)
      true
  """
  @spec start(Session.t(), :digest, mechanism) :: {:ok, Operation.t()} | error
  def start(session, :digest, mechanism), do: start(session, :digest, nil, mechanism, [])

  @doc """
  The session that a session of `with_session/3` is, or one of an instance's: `:slot`, `:state` (such as
  `:rw_user_functions`), `:flags` by name and the vendor's `:device_error`, a number.

  PKCS #11 v3.2, section 5.6.4 (C_GetSessionInfo).

      iex> {:ok, info} = Cryptoki.session_info(MyApp.HSM)
      iex> {info.state, info.flags}
      {:rw_user_functions, [:rw_session, :serial_session]}
  """
  @spec session_info(hsm, opts) :: {:ok, map} | error
  def session_info(hsm, opts \\ []),
    do: at(hsm, Information.session(hsm, opts))

  bang(session_info(hsm, opts) :: map)

  @doc """
  Whether the last operation of a session was one that a validation of the token covers: the bits of
  the `:validation_flag` of its objects of class `:validation`, 0 for none. Ask the session of
  `with_session/3` that did the operation.

  Errors: `:function_not_supported` before 3.2. PKCS #11 v3.2, section 5.6.11
  (C_GetSessionValidationFlags).

      {:ok, flags} = Cryptoki.validation_flags(session)
  """
  @spec validation_flags(hsm, opts) :: {:ok, non_neg_integer} | error
  def validation_flags(hsm, opts \\ []),
    do: at(hsm, Information.validation_flags(hsm, opts))

  bang(validation_flags(hsm, opts) :: non_neg_integer)
end

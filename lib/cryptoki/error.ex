defmodule Cryptoki.Error do
  # One text per reason: what it means; what to do about it.
  @ours [
    timeout:
      "no answer in time; raise timeout:, add sessions:, or look at what keeps the token busy",
    busy:
      "too much is going on at once; try again, with fewer calls, more sessions: or a larger queue_limit:",
    shutdown: "the instance is stopping or does not run; nothing was sent to the token",
    token_absent:
      "the token is not there; insert it or check token:, the instance connects when it comes",
    locked:
      "no login is tried again, the PIN was refused or may have been: give another, or unlock with force:",
    key_not_found:
      "nothing matches the selector; check label, id and class, and that the user is logged in",
    key_ambiguous: "more than one object matches the selector; add attributes until one is left",
    session_lost:
      "the session ended before the answer came, with all that was begun in it; start again",
    stale_handle:
      "the object was found before the library or the token was restarted; look it up again",
    library_not_loaded:
      "the PKCS #11 library cannot be loaded; check its path, permissions and architecture",
    library_crashed:
      "the process of the library has ended, and is started again; its vendor may want to know how it ended",
    module_misbehaved:
      "the library's answer breaks the rules of the standard and is not used; tell its vendor",
    panic:
      "cryptoki's native part failed in this call and replaces its session; please report it",
    invalid_argument: "an argument is not what the call needs",
    unsupported: "the PKCS #11 library or this version of cryptoki cannot do this",
    pin_unavailable: "the PIN cannot be had from where pin: says it is",
    token_ambiguous:
      "more than one token is what token: asks for; add serial: or slot: until one is left",
    node_down:
      "the node of the token is away; see that it runs, has the same cookie and can be reached from here"
  ]

  @standard [
    # The library, the computer, the device.
    general_error:
      "the library cannot recover from an error; read its log, restart the instance if it stays",
    host_memory: "the library ran out of memory; look at what the computer has left",
    function_failed:
      "the token could not do it and does not say why; the same call may succeed later",
    device_error:
      "the token or its reader has a problem; check the device, its connection and its log",
    device_memory: "the token is full; remove objects or close sessions",
    device_removed: "the token was removed during the call; put it back",
    token_not_present: "there is no token in the slot; insert it",
    token_not_recognized:
      "the library does not know the kind of token in the slot; use the library of its vendor",
    token_not_initialized: "the token is as it left the factory; initialise it first",
    token_write_protected:
      "the token is write-protected; nothing can be created or changed on it",
    token_resource_exceeded:
      "the token is out of resources for this; send less data at once or close sessions",
    slot_id_invalid: "there is no slot of this number; list the slots of the library",
    library_load_failed:
      "the library could not load another library it needs; check its installation",
    fips_self_test_failed:
      "the token's self-test failed and it refuses all work; restart it, then see its vendor",
    cryptoki_not_initialized:
      "the library is not initialised, or something else finalised it; restart the instance",
    cryptoki_already_initialized:
      "something else in this process uses the library; only one part of a program can",
    cant_lock:
      "the library cannot be used by several threads as asked; start with locking: :serialized",
    need_to_create_threads: "the library insists on threads of its own; see its documentation",
    function_not_supported:
      "the library does not have this function; see what the library says it can do",
    function_canceled: "the call was cancelled before it was done, maybe at the token's PIN pad",
    function_rejected: "the person at the token refused the request",
    arguments_bad:
      "the library refuses an argument and does not say which; compare with its documentation",
    buffer_too_small: "the answer did not fit the space the library was given",
    action_prohibited:
      "the token's policy or the object forbids it; see :copyable, :modifiable and :destroyable",
    operation_not_validated:
      "the token's validation (FIPS, for one) does not allow this operation",
    information_sensitive: "the token does not reveal this",

    # PIN and login.
    pin_incorrect:
      "the PIN is wrong; it is not tried again by itself, since tokens lock after a few tries",
    pin_locked:
      "the PIN is locked after too many wrong tries; the security officer can set a new one",
    pin_expired: "the PIN has expired; set a new one first",
    pin_invalid: "the new PIN has characters the token does not take",
    pin_len_range: "the PIN is too short or too long; token_info shows the limits",
    pin_too_weak: "the new PIN is too easy to guess; choose another",
    user_not_logged_in: "this needs a login; start the instance with pin:",
    user_already_logged_in: "this user is logged in already",
    user_another_already_logged_in: "another user is logged in; log that one out first",
    user_pin_not_initialized:
      "the token has no user PIN yet; the security officer has to set one first",
    user_too_many_types: "the token does not take so many users at once; log another out first",
    user_type_invalid: "the token does not know this type of user",

    # Sessions and operations.
    session_count: "the token has no session left; close some elsewhere or lower sessions:",
    session_closed:
      "the session was closed during the call, which may have done its work; a new one is opened",
    session_handle_invalid:
      "the session is gone, often because the token was removed; a new one is opened by itself",
    session_read_only:
      "this changes the token and the session is read-only; start without read_only: true",
    session_exists: "the token has open sessions, in this program or another; close them first",
    session_read_only_exists:
      "the security officer cannot log in while a read-only session is open; close it first",
    session_read_write_so_exists:
      "a session of the security officer is open, so no read-only one can be; close it first",
    operation_active:
      "the session is in the middle of another operation; finish or cancel that first",
    operation_not_initialized: "the session has no such operation begun; start it first",
    operation_cancel_failed: "the token could not cancel the operation; close the session",

    # Keys and objects.
    key_handle_invalid: "the key is gone or is no key; look it up again",
    object_handle_invalid: "the object is gone; look it up again",
    key_size_range:
      "the token does not work with keys of this size; mechanism_info shows the limits",
    key_type_inconsistent:
      "the key is not of the type this mechanism works with; check its :key_type",
    key_function_not_permitted:
      "the key may not do this; its :sign, :decrypt, :wrap, :derive or the like has to be true",
    key_unextractable:
      "the key was made to stay in the token (:extractable is false); it cannot be wrapped",
    key_not_wrappable:
      "the token cannot wrap this key with that one; try another mechanism or key",
    key_exhausted: "the key has signed as often as it can; make a new one",
    key_indigestible: "the token does not digest this key",
    public_key_invalid:
      "the public key fails its checks; see that it is whole and of the right curve",
    wrapped_key_invalid: "this is no wrapped key of the kind the template says",
    wrapped_key_len_range: "a wrapped key of this kind does not have this length",
    wrapping_key_handle_invalid: "the wrapping key is gone or is no key; look it up again",
    wrapping_key_size_range: "the token does not wrap with a key of this size",
    wrapping_key_type_inconsistent:
      "the wrapping key is not of the type this mechanism works with",
    unwrapping_key_handle_invalid: "the unwrapping key is gone or is no key; look it up again",
    unwrapping_key_size_range: "the token does not unwrap with a key of this size",
    unwrapping_key_type_inconsistent:
      "the unwrapping key is not of the type this mechanism works with",

    # Templates.
    attribute_read_only:
      "the template sets an attribute that only the token sets, or that stays as it is",
    attribute_sensitive:
      "the value stays in the token: the object is sensitive or not extractable",
    attribute_type_invalid:
      "the token does not know an attribute, or objects of this kind do not have it",
    attribute_value_invalid: "an attribute in the template has a value the token does not take",
    template_incomplete:
      "the template lacks an attribute the token needs; see the table of this key type",
    template_inconsistent:
      "attributes in the template contradict each other, the mechanism or the token's rules",
    curve_not_supported: "the token does not know this curve",
    domain_params_invalid: "the token does not take these domain parameters or their encoding",
    parameter_set_not_supported: "the token does not know this parameter set",

    # Mechanisms and data.
    mechanism_invalid:
      "the token does not do this mechanism, or not here; Cryptoki.mechanisms/1 lists its own",
    mechanism_param_invalid:
      "the token refuses the parameter of the mechanism; check its arguments",
    data_invalid: "the data is not what the mechanism works on",
    data_len_range:
      "data of this length does not go with the mechanism; too long, or not whole blocks",
    encrypted_data_invalid:
      "this cannot be decrypted: another key, another mechanism or damaged data",
    encrypted_data_len_range:
      "encrypted data of this key and mechanism does not have this length",
    aead_decrypt_failed:
      "the tag does not match: other data, additional data, IV or key than in the encryption",
    signature_invalid: "the signature does not belong to this data and key",
    signature_len_range: "signatures of this key and mechanism do not have this length",
    exceeded_max_iterations: "the token gave up looking for suitable numbers; try again",
    random_no_rng: "the token has no random number generator",
    random_seed_not_supported: "the token's random number generator takes no seed",
    seed_random_required: "the token's random number generator has to be seeded first"
  ]

  # The token may have done what was asked, or part of it. Of a vendor's code nobody can know.
  @maybe ~w[timeout session_lost library_crashed module_misbehaved panic]a ++
           Cryptoki.Answers.maybe()

  @moduledoc """
  What went wrong, in `{:error, error}` of every function and raised by its `!` twin.

    * `:reason`: what to match on, an atom of the lists below, another `CKR_` name in lower case,
      or the number when it has no name (a vendor's code)
    * `:code`: the `CK_RV` number the library answered, `nil` when the error is ours
    * `:function`: the C function that answered, such as `:C_Sign`, or `nil`
    * `:executed`: `false` when the token did not do what was asked, so that asking again does no
      harm; `:maybe` when it may have (a key may have been generated, a counter spent)
    * `:detail`: more about it for people, or `nil`. Never data, never a PIN
    * `:member`: of a call to a group, the member that answered; see `Cryptoki.Group`

  `Exception.message/1` makes a sentence of it.

  Ours:

  #{for {reason, text} <- @ours, do: "  * `:#{reason}`: #{text}\n"}
  From the token, the ones people meet (PKCS #11 v3.2, section 5.1, has the rest):

  #{for {reason, text} <- @standard, do: "  * `:#{reason}`: #{text}\n"}
  """

  alias Cryptoki.Names

  defexception [:reason, :code, :function, :detail, :member, executed: false]

  @type reason :: atom | non_neg_integer

  @type t :: %__MODULE__{
          reason: reason,
          code: non_neg_integer | nil,
          function: atom,
          detail: String.t() | nil,
          member: term,
          executed: false | :maybe
        }

  @typedoc "An error as the native side reports it."
  @type native ::
          {:rv, non_neg_integer, atom, class :: atom}
          | {:own, reason :: atom, detail :: String.t()}

  @texts Map.new(@ours ++ @standard)

  @doc """
  An error of ours, or of the token when `reason` is a `CKR_` name. `fields` sets the others.

      iex> error = Cryptoki.Error.new(:key_not_found, "label: \\"invoice\\"")
      iex> {error.reason, error.code, error.executed}
      {:key_not_found, nil, false}
      iex> Cryptoki.Error.new(:timeout, nil, executed: false).executed
      false
  """
  @spec new(atom, String.t() | nil, keyword) :: t
  def new(reason, detail \\ nil, fields \\ []) when is_atom(reason) do
    struct!(%__MODULE__{reason: reason, detail: detail, executed: executed(reason)}, fields)
  end

  @doc """
  The error the native side reported.

      iex> error = Cryptoki.Error.from_native({:rv, 0xA0, :C_Login, :pin})
      iex> {error.reason, error.function}
      {:pin_incorrect, :C_Login}
  """
  @spec from_native(native) :: t
  def from_native({:rv, code, function, _class}) do
    reason = Names.name(:rv, code)
    %__MODULE__{reason: reason, code: code, function: function, executed: executed(reason)}
  end

  def from_native({:own, :no_process, detail}),
    do: new(:library_crashed, detail, executed: false)

  def from_native({:own, :crashed_in_login, detail}),
    do: new(:library_crashed, detail, function: :C_Login)

  def from_native({:own, reason, ""}), do: new(reason)
  def from_native({:own, reason, detail}), do: new(reason, detail)

  @doc """
  The reasons with a text of their own, ours first.

      iex> :pin_incorrect in Cryptoki.Error.reasons()
      true
  """
  @spec reasons() :: [atom]
  def reasons, do: Keyword.keys(@ours ++ @standard)

  @doc """
  A sentence a person can act on.

      iex> Exception.message(Cryptoki.Error.from_native({:rv, 0x32, :C_Sign, :absent}))
      "C_Sign answered CKR_DEVICE_REMOVED: the token was removed during the call; put it back"
  """
  @impl true
  @spec message(t) :: String.t()
  def message(%__MODULE__{} = error), do: head(error) <> text(error) <> detail(error)

  @doc false
  # What was answered, without what it means.
  @spec answered(t) :: String.t()
  def answered(%__MODULE__{function: function} = error),
    do: "#{function || "the library"} answered #{answer(error)}"

  defp head(%{code: nil, function: nil}), do: ""
  defp head(%{code: nil, function: function}), do: "#{function}: "

  defp head(error), do: answered(error) <> ": "

  defp answer(%{reason: reason}) when is_atom(reason), do: "CKR_" <> String.upcase("#{reason}")
  defp answer(%{code: code}), do: "0x" <> Integer.to_string(code, 16)

  # Codes with the highest bit of 32 belong to the vendor.
  defp text(%{reason: reason}) when is_map_key(@texts, reason), do: @texts[reason]

  defp text(%{reason: reason, code: nil}) when is_atom(reason),
    do: String.replace("#{reason}", "_", " ")

  defp text(%{reason: reason}) when is_atom(reason), do: "the token refuses the request"

  # Also without a code: where an instance is not connected because of one.
  defp text(%{reason: number}) when number >= 0x80000000,
    do: "a code of the library's vendor, see there"

  defp text(_), do: "a code PKCS #11 does not define, see the documentation of the library"

  defp detail(%{detail: nil}), do: ""
  defp detail(%{detail: detail}), do: " (#{detail})"

  defp executed(reason) when reason in @maybe or is_integer(reason), do: :maybe
  defp executed(_), do: false

  defimpl Inspect do
    # What an error has, without what it does not; the code as it stands in the header of the standard.
    def inspect(error, opts) do
      names = [:reason, :function, :code, :detail, :member, :executed]
      fields = for name <- names, value = Map.fetch!(error, name), do: {name, value}
      Inspect.Algebra.container_doc("%Cryptoki.Error{", fields, "}", opts, &field/2)
    end

    defp field({:code, code}, _opts), do: "code: 0x" <> Integer.to_string(code, 16)

    defp field({name, value}, opts),
      do: Inspect.Algebra.concat("#{name}: ", Inspect.Algebra.to_doc(value, opts))
  end
end

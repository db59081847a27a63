defmodule Cryptoki.OptionsTest do
  # Not async: CRYPTOKI_LIBRARY belongs to the whole VM.
  use ExUnit.Case, async: false

  import Cryptoki.Options

  alias Cryptoki.{Environment, Pin, URI}

  @library "/opt/acme/libacme.so"
  @least [library: @library, token: [label: "payments"]]

  setup do
    before = System.get_env("CRYPTOKI_LIBRARY")
    System.delete_env("CRYPTOKI_LIBRARY")
    on_exit(fn -> if before, do: System.put_env("CRYPTOKI_LIBRARY", before) end)
  end

  describe "start!/1" do
    test "fills in the defaults" do
      options = start!(@least)

      assert Map.drop(options, [:token, :pin, :env]) == %{
               name: nil,
               library: @library,
               sessions: 4,
               user: :user,
               read_only: false,
               timeout: 5_000,
               queue_limit: 10_000,
               init_args: nil,
               reconnect: %{min: 100, max: 30_000},
               watch: %{min: 200, max: 500},
               locking: :os,
               interface: nil,
               isolation: :none,
               memory: nil,
               kill_after: nil
             }

      assert to_string(options.token) == "pkcs11:token=payments"
      assert Pin.fetch(options.pin) == {:ok, :none}
      assert Environment.opened(options).env == []
    end

    test "takes every option" do
      options =
        start!(
          name: My.HSM,
          library: ~c"/opt/acme/libacme.so",
          token: "pkcs11:serial=1",
          pin: fn -> "1234" end,
          sessions: 1024,
          user: {:named, "alice"},
          read_only: true,
          timeout: :infinity,
          queue_limit: 1,
          init_args: "configdir='sql:/db'",
          reconnect: [min: 1],
          locking: :serialized,
          interface: {3, 0},
          isolation: :none
        )

      assert options.name == My.HSM
      assert options.library == @library
      assert options.token == URI.parse!("pkcs11:serial=1")
      assert Pin.fetch(options.pin) == {:ok, "1234"}
      assert options.user == {:named, "alice"}
      assert options.timeout == :infinity
      assert options.init_args == "configdir='sql:/db'"
      assert options.reconnect == %{min: 1, max: 30_000}
    end

    test "takes a map, also maps in it, and what it returned" do
      options = start!(%{library: @library, token: %{label: "a"}, reconnect: %{max: 200}})
      assert options.reconnect == %{min: 100, max: 200}
      assert start!(options) == options
    end

    test "nil is not given" do
      nothing = [name: nil, pin: nil, sessions: nil, uri: nil, read_only: nil, reconnect: nil]
      sealed = [:pin, :env]
      assert Map.drop(start!(nothing ++ @least), sealed) == Map.drop(start!(@least), sealed)
    end

    test "finds the library in the environment when no option names it" do
      refused([token: [slot: 0]], ~r/^no library given: .*CRYPTOKI_LIBRARY$/)
      System.put_env("CRYPTOKI_LIBRARY", "/from/environment.so")
      assert start!(token: [slot: 0]).library == "/from/environment.so"
      assert start!(@least).library == @library
      assert start!(uri: "pkcs11:token=a?module-path=/b.so").library == "/b.so"
    after
      System.delete_env("CRYPTOKI_LIBRARY")
    end

    test "an unknown option brings the near one to mind" do
      refused(
        [librari: "x"],
        ~r/unknown start option :librari, did you mean :library\?; known: :name/
      )

      refused([session: 3] ++ @least, ~r/did you mean :sessions\?/)
      refused([xyzzy: 3], ~r/unknown start option :xyzzy; known/)
      refused(%{"library" => "x"}, ~r/unknown start option "library"; known/)
    end

    test "a wrong value is named, with what it must be" do
      for {option, message} <- [
            {[name: "hsm"], ~s(name: must be an atom, got: "hsm")},
            {[name: true], "name: must be an atom, got: true"},
            {[library: 3], "library: must be a path, got: 3"},
            {[library: ""], ~s(library: must be a path, got: "")},
            {[library: <<?a, 0>>], "library: must be a path, got: <<97, 0>>"},
            {[library: [a: 1]], "library: must be a path, got: [a: 1]"},
            {[sessions: 0], "sessions: must be an integer from 1 to 1024, got: 0"},
            {[sessions: 1025], "sessions: must be an integer from 1 to 1024, got: 1025"},
            {[sessions: 1.0], "sessions: must be an integer from 1 to 1024, got: 1.0"},
            {[user: :admin], "user: must be :user, :so or {:named, name}, got: :admin"},
            {[user: {:named, ""}],
             ~s(user: must be :user, :so or {:named, name}, got: {:named, ""})},
            {[read_only: :yes], "read_only: must be true or false, got: :yes"},
            {[timeout: 0], "timeout: must be milliseconds, at least 1, or :infinity, got: 0"},
            {[timeout: 0x100000000], ~r/^timeout: must be milliseconds/},
            {[queue_limit: -1], "queue_limit: must be an integer from 1 to 1000000, got: -1"},
            {[init_args: :nss], "init_args: must be a string without NUL bytes, got: :nss"},
            {[reconnect: 5], ~r/^reconnect: must be a keyword list of min: and max:/},
            {[reconnect: [mim: 5]], ~r/^reconnect: must be/},
            {[reconnect: [min: 5, max: 4]], ~r/min not above max, got: \[min: 5, max: 4\]/},
            {[locking: :none], "locking: must be :os or :serialized, got: :none"},
            {[interface: {4, 0}], "interface: must be a version such as {3, 0}, got: {4, 0}"},
            {[interface: "3.0"], ~s(interface: must be a version such as {3, 0}, got: "3.0")},
            {[isolation: :peer], "isolation: must be :none or :process, got: :peer"},
            {[token: 3], ~r/^token: must be a keyword list such as \[label: "payments"\]/},
            {[token: "payments"], "token: a PKCS #11 URI begins with pkcs11:"},
            {[token: "pkcs11:token=a;token=b"],
             ~r/^token: token, at character 16 .* given twice/},
            {[token: "pkcs11:token=a;x-zone=1"], ~r/^token: no token can be found by x-zone/},
            {[token: "pkcs11:token=a?pin-value=1"], ~r/^token: what stands behind the \?/},
            {[token: [lable: "a"]],
             ~r/unknown part of token: :lable, did you mean :label\?; known: :label, :serial/},
            {[token: [label: nil]], "token: label: must be UTF-8 text, got: nil"},
            {[token: [label: <<255>>]], "token: label: must be UTF-8 text, got: <<255>>"},
            {[token: [slot: "3"]], ~s(token: slot: must be the id of a slot, got: "3")},
            {[uri: 3], "uri: must be a PKCS #11 URI, got: an integer"},
            {[uri: "pkcs11:token"], ~r/^uri: no name=value begins at character 8/}
          ] do
        refused(option ++ @least, message)
      end
    end

    test "options are a keyword list or a map" do
      for wrong <- [nil, "secret", [:secret], {:pin, "secret"}] do
        refused(wrong, ~r/^expected a keyword list or a map, got: [a-z0-9 ]+$/)
      end
    end
  end

  describe "token:" do
    test "in each form is a place" do
      for {token, uri} <- [
            {[label: "my token", serial: "1"], "pkcs11:token=my%20token;serial=1"},
            {[manufacturer: "a", model: "b"], "pkcs11:manufacturer=a;model=b"},
            {[slot: 3], "pkcs11:slot-id=3"},
            {%{label: ~c"a"}, "pkcs11:token=a"},
            {~c"pkcs11:token=a", "pkcs11:token=a"},
            {"pkcs11:token=a;object=b;type=cert", "pkcs11:token=a"},
            {URI.new(slot_description: "a"), "pkcs11:slot-description=a"}
          ] do
        assert to_string(start!(library: @library, token: token).token) == uri
      end
    end

    test "must name a token" do
      for token <- [nil, [], %{}, "pkcs11:", "pkcs11:object=a", "pkcs11:library-version=1"] do
        refused([library: @library, token: token], ~r/^no token given: set token: to \[label: "/)
      end
    end
  end

  describe "uri:" do
    test "gives library, token and PIN" do
      uri = "pkcs11:token=a;object=b?module-path=/x.so&pin-value=1234"

      for uri <- [uri, to_charlist(uri), URI.parse!(uri)] do
        options = start!(uri: uri)
        assert options.library == "/x.so"
        assert to_string(options.token) == "pkcs11:token=a"
        assert Pin.fetch(options.pin) == {:ok, "1234"}
        refute Map.has_key?(options, :uri)
        refute inspect(options, structs: false) =~ "1234"
      end

      pin = start!(uri: "pkcs11:token=a?module-path=/x.so&pin-source=file:/run/pin").pin
      assert inspect(pin) == "#Cryptoki.Pin<file /run/pin>"
    end

    test "leaves the rest to the other options" do
      options = start!(uri: "pkcs11:?pin-value=1234", library: "/x.so", token: [label: "a"])
      assert options.library == "/x.so"
      assert Pin.fetch(start!([uri: "pkcs11:", pin: "1"] ++ @least).pin) == {:ok, "1"}
    end

    test "does not contradict them" do
      for {uri, option} <- [
            {"pkcs11:token=a", "token"},
            {"pkcs11:?module-path=/x.so", "library"},
            {"pkcs11:?pin-value=secret", "pin"}
          ] do
        refused(
          [uri: uri, pin: "secret"] ++ @least,
          "uri: and #{option}: both give the #{option}; leave one of them out"
        )
      end
    end

    test "must be of use" do
      for {uri, message} <- [
            {"pkcs11:token=a;x-zone=1", ~r/^uri: no token can be found by x-zone/},
            {"pkcs11:?module-name=cryptoki-never-there", ~r/^uri: no "cryptoki-never-there" in /},
            {"pkcs11:?module-path=x.so", ~r/^uri: module-path is not absolute/},
            {"pkcs11:?pin-source=|pin", "uri: pin-source must be a file: URI or a path"}
          ] do
        refused([uri: uri], message)
      end
    end
  end

  test "no message shows a PIN" do
    for wrong <- [
          [pin: {:pin, "secret"}],
          [pin: :secret],
          [pin: %{pin: "secret"}],
          [uri: {"pkcs11:?pin-value=secret"}],
          [uri: "pkcs11:?pin-value=secret%"],
          [uri: "?pin-value=secret"],
          [token: {"secret"}],
          [token: "pkcs11:?pin-value=secret"],
          [pin: "secret", sessions: 0],
          [pin: "secret", xyzzy: 1]
        ] do
      error = assert_raise ArgumentError, fn -> start!(wrong ++ @least) end
      refute error.message =~ "secret"
    end
  end

  describe "call!/2" do
    test "without any the defaults are those that the table gives" do
      all = ~w[timeout pin metadata format how signature signature_first associated_data force]a
      for names <- [all | Enum.map(all, &[&1])], do: assert(call!([], names) == call!(%{}, names))
      assert map_size(call!([], all)) == length(all)
    end

    test "has defaults for what the call takes" do
      assert call!([], [:timeout, :pin, :metadata, :format]) ==
               %{timeout: nil, pin: nil, metadata: %{}, format: :raw}

      assert call!(%{timeout: 10}, [:timeout]) == %{timeout: 10}
      assert call!([metadata: %{a: 1}, format: :der], [:metadata, :format]).format == :der
      assert {:ok, "1"} = Pin.fetch(call!([pin: "1"], [:pin]).pin)
    end

    test "refuses the rest" do
      refused(
        fn -> call!([format: :der], [:timeout]) end,
        "unknown option :format; known: :timeout"
      )

      refused(fn -> call!([timeot: 1], [:timeout]) end, ~r/did you mean :timeout\?/)
      refused(fn -> call!([timeout: 1], []) end, ~r/unknown option :timeout/)
      refused(fn -> call!([timeout: -1], [:timeout]) end, ~r/^timeout: must be milliseconds/)

      refused(
        fn -> call!([format: :pem], [:format]) end,
        "format: must be :raw or :der, got: :pem"
      )

      refused(fn -> call!([metadata: []], [:metadata]) end, "metadata: must be a map, got: []")

      refused(
        fn -> call!([pin: {"secret"}], [:pin]) end,
        ~r/^pin: must be .*, got: a tuple of 1$/
      )

      refused(fn -> call!(:secret, [:pin]) end, ~r/got: an atom$/)
    end
  end

  test "matches_token?/2" do
    token = %{label: "payments", manufacturer: "Acme", model: "2", serial: "7"}
    slot = %{id: 3, description: "Reader", manufacturer: "Acme", flags: 1, token: token}

    for {wanted, fits} <- [
          {[label: "payments"], true},
          {[label: "payments", slot: 3], true},
          {[label: "payments", slot: 4], false},
          {[serial: "7", model: "3"], false},
          {"pkcs11:slot-description=Reader", true}
        ] do
      wanted = start!(library: @library, token: wanted).token
      assert matches_token?(wanted, slot) == fits
      refute matches_token?(wanted, %{slot | token: nil})
    end
  end

  test "the documentation has every option" do
    known = Map.keys(start!(@least)) ++ [:uri]
    documented = for [_, name] <- Regex.scan(~r/^  \* `(\w+):` \(`/m, docs()), do: name
    assert Enum.sort(documented) == Enum.sort(Enum.map(known, &to_string/1))
    assert docs() =~ "Default: `5000`."
    refute docs() =~ ~r/ $|Default: `nil`/m

    assert docs([:timeout, :pin]) =~
             ~r/\A  \* `timeout:` \(`timeout`\): how .*\n  \* `pin:` [^\n]*\z/
  end

  defp refused(call, message) when is_function(call),
    do: assert_raise(ArgumentError, message, call)

  defp refused(options, message), do: refused(fn -> start!(options) end, message)
end
